"""A lionagi model whose every request goes to the gateway, each as a call of its own in the ledger.

A Branch's method may ask several times: lionagi has an answer that doesn't parse reformatted. Each of these
requests carries the next ordinal, so that the same node run again finds all of them paid.
"""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from lionagi import iModel
from lionagi._errors import LionError
from lionagi.protocols.types import EventStatus
from lionagi.service.connections import APICalling

from qefleet.errors import ModelRefused, ModelUnavailable, ModelUnusable, QeError
from qefleet.llm.call import LOCAL_HOSTS, REASONING_MODELS
from qefleet.llm.models import NO_MODEL
from qefleet.llm.outcome import raw_reply, translated
from qefleet.llm.reply import UnusableReplyError
from qefleet.llm.tokens import CallIdentity, mint

_TOKEN = "the-token-of-this-call"  # noqa: S105 - a placeholder in the headers that lionagi makes
_LOCAL_ANSWER_TOKENS = 1024
"""A small model that can't stop is cut off here, where the node names no limit of its own."""
_REFUSED_BY_REASONING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


class GatewayModel(iModel):
    """An iModel for the one node that it is made for.

    Args:
        gateway_url: Where the gateway listens.
        secret: Signs the capabilities.
        identity: Whose calls these are, from which ordinal on.
        model: `provider/name`, `local` or `none`.
        settings: Such as `temperature`, for all calls.
        timeout_s: For one call.
    """

    failure: QeError | None = None
    """Why a call failed. lionagi takes a failed call for an answer that doesn't parse, and goes on without:
    whoever uses the Branch looks here."""

    def __init__(
        self,
        *,
        gateway_url: str,
        secret: str,
        identity: CallIdentity,
        model: str,
        settings: Mapping[str, Any],
        timeout_s: int,
    ) -> None:
        self._provider, _, name = model.partition("/")
        self._name = name or self._provider
        self._secret = secret
        self._identity = identity
        self._timeout_s = timeout_s
        defaults: dict[str, Any] = {"max_tokens": _LOCAL_ANSWER_TOKENS} if self._provider == "local" else {}
        super().__init__(
            provider="anthropic" if self._provider == "anthropic" else "openai",
            endpoint="chat",
            model=self._name,
            base_url=f"{gateway_url.rstrip('/')}/{self._provider}/v1",
            api_key=_TOKEN,
            allow_local_network=urlsplit(gateway_url).hostname in LOCAL_HOSTS,
            # What these are for is told in `qefleet.llm.call`.
            requires_tokens=False,
            max_retries=1,
            timeout=timeout_s,
            queue_capacity=10_000,
            **{**defaults, **settings},
        )

    def create_api_calling(self, include_token_usage_to_model: bool = False, **kwargs: Any) -> APICalling:
        """The request, with the capability for the next ordinal."""
        call = super().create_api_calling(include_token_usage_to_model, **kwargs)
        token = mint(self._identity, self._secret)
        self._identity = self._identity.model_copy(update={"ordinal": self._identity.ordinal + 1})
        call.headers = {name: value.replace(_TOKEN, token) for name, value in call.headers.items()}
        if self._provider == "openai" and str(call.payload["model"]).startswith(REASONING_MODELS):
            # lionagi drops these on a process's first call only: a retry would be another call.
            call.payload = {
                name: value for name, value in call.payload.items() if name not in _REFUSED_BY_REASONING
            }
        return call

    async def invoke(self, api_call: APICalling | None = None, **kw: Any) -> APICalling:
        """Ask once; after a failure never again."""
        if self._provider == NO_MODEL and self.failure is None:
            self.failure = ModelRefused(
                "no model is set: give the run a model, or the fleet one with QE_MODEL"
            )
        if self.failure is not None:
            raise self.failure
        try:
            async with asyncio.timeout(self._timeout_s):
                call = await super().invoke(api_call, **kw)  # pyright: ignore[reportArgumentType] - None is its default
        except TimeoutError as error:
            self.failure = ModelUnavailable(f"{self._provider} gave no answer within {self._timeout_s} s")
            raise self.failure from error
        except (LionError, ValueError) as error:
            self.failure = self._translated(error)
            raise self.failure from error
        try:
            self._check(call)
        except QeError as error:
            self.failure = error
            raise
        return call

    def _check(self, call: APICalling) -> None:
        """See that there is an answer: lionagi raises neither for a failure nor when it gave up waiting.

        An answer without text passes: where a format is wanted lionagi asks again, and an empty result is
        refused by whoever called the Branch.
        """
        match call.status, call.execution.error:
            case EventStatus.COMPLETED, _:
                with suppress(UnusableReplyError):
                    raw_reply(call.response, self._provider)
            case _, BaseException() as error:
                raise self._translated(error) from error
            case status, error:
                raise ModelUnavailable(f"the call to {self._provider} ended as {status.value}: {error}")

    def _translated(self, error: BaseException) -> QeError:
        known = translated(error, self._provider)
        return (
            ModelUnusable(f"the answer can't be used: {known}")
            if isinstance(known, UnusableReplyError)
            else known
        )
