"""What came of a model call: an answer, or which of our errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import httpx
from lionagi.service.resilience import APIClientError
from pydantic import BaseModel, ValidationError

from qefleet.errors import BudgetExceeded, ModelRefused, ModelUnavailable, QeError
from qefleet.llm.reply import UnusableReplyError

_FINISH_REASONS = {"max_tokens": "length", "end_turn": "stop", "stop_sequence": "stop"}
_REFUSALS = frozenset({"content_filter", "refusal"})
_TRANSIENT = frozenset({408, 409, 425})
_FIRST_REFUSAL, _TOO_MANY, _FIRST_FAILURE = 400, 429, 500
_GATEWAYS_OWN = frozenset(
    {"token_refused", "missing_key", "unknown_provider", "price_unknown", "outcome_unknown"}
)
"""Problems that the gateway tells in words of its own, which say what to do."""
_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class RawReply:
    """What came back, before anyone has parsed it."""

    text: str
    finish_reason: str | None
    model: str | None
    usage: Mapping[str, Any]


def raw_reply(answer: Any, provider: str) -> RawReply:
    """Read an answer as the provider sent it, OpenAI's or Anthropic's.

    Raises:
        ModelRefused: The model declines, or a content filter does.
        UnusableReplyError: There is nothing in it.
    """
    body = _read(answer)
    choice = body.choices[0] if body.choices else _Choice(finish_reason=body.stop_reason)
    reason = _FINISH_REASONS.get(choice.finish_reason or "", choice.finish_reason)
    if reason in _REFUSALS or choice.message.refusal:
        words = (choice.message.refusal or reason or "")[:_SHOWN]
        raise ModelRefused(f"{provider}'s model declines to answer ({words}): change the prompt or the model")
    return RawReply(
        text=choice.message.content or "".join(block.text for block in body.content),
        finish_reason=reason,
        model=body.model,
        usage=body.usage or {},
    )


def translated(error: BaseException, provider: str) -> QeError | UnusableReplyError:
    """Our own error for one of lionagi's, whose causes tell what happened."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case APIClientError():
                return _from_status(cause, provider)
            case httpx.TransportError() | PermissionError():
                return ModelUnavailable(_unreachable(cause))
            case json.JSONDecodeError():
                return UnusableReplyError("it was broken.")
            case _:
                cause = cause.__cause__
    words = str(error)[:_SHOWN]
    if isinstance(error, ValueError):  # lionagi didn't send it: a setting that the provider doesn't take
        return ModelRefused(f"the call to {provider} can't be made: {words}")
    return ModelUnavailable(f"the call to {provider} failed: {words}")


def _unreachable(cause: httpx.TransportError | PermissionError) -> str:
    match cause:
        case httpx.TimeoutException():
            return "the gateway gave no answer in time"
        case httpx.TransportError():
            return f"the gateway can't be reached ({type(cause).__name__}): is `qe up` running?"
        case PermissionError():  # lionagi's guard; a name that doesn't resolve looks the same
            return (
                "lionagi reaches a gateway on localhost or at a public address only: set QE_GATEWAY_URL "
                "to http://127.0.0.1 and the gateway's port, or share its network namespace"
            )


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message = _Message()


class _Block(BaseModel):
    text: str = ""


class _Body(BaseModel):
    """What we read of an answer: OpenAI's `choices`, or Anthropic's `content` and `stop_reason`."""

    model: str | None = None
    usage: dict[str, Any] | None = None
    choices: list[_Choice] = []
    content: list[_Block] = []
    stop_reason: str | None = None


class _Fault(BaseModel):
    type: str | None = None
    message: str | None = None


class _FaultBody(BaseModel):
    """Providers send `{"error": {"type", "message"}}`; some send `{"error": "words"}`."""

    error: _Fault | str | None = None


def _read(answer: Any) -> _Body:
    if not answer:
        # lionagi also gives up on its own queue without a word.
        raise UnusableReplyError("it was empty.")
    try:
        return _Body.model_validate(answer)
    except ValidationError as error:
        raise UnusableReplyError("it was broken.") from error


def _from_status(error: APIClientError, provider: str) -> QeError | UnusableReplyError:
    status = error.status_code or 0
    kind, words = _fault(error)
    bodiless = status == _TOO_MANY or status >= _FIRST_FAILURE  # lionagi keeps no body of these …
    if status < _FIRST_REFUSAL or (
        bodiless and words
    ):  # … so it came as 200: the ledger has it as the answer.
        return UnusableReplyError(f"the provider sent an error in its place ({words}).")
    if kind == "budget_exceeded":
        return BudgetExceeded(words)
    if kind in _GATEWAYS_OWN:
        return ModelRefused(f"the gateway refuses the call to {provider}: {words}")
    if bodiless or status in _TRANSIENT:
        wait = _retry_after_s(error)
        return ModelUnavailable(f"{provider} can't answer now (HTTP {status})", retry_after_s=wait)
    advice = {
        401: f"check {provider.upper()}_API_KEY in the gateway's environment",
        402: f"the account at {provider} has no credit left",
        403: f"the key in {provider.upper()}_API_KEY may not use this model",
        404: "check the model's name in QE_MODEL",
        413: "the question is too long for this model",
    }.get(status, "the request doesn't suit this model")
    return ModelRefused(
        f"{provider} refuses the call (HTTP {status}): {advice}. It says: {words or 'nothing'}"
    )


def _fault(error: APIClientError) -> tuple[str | None, str]:
    """The error's type and words, as far as the body gives them."""
    try:
        fault = _FaultBody.model_validate(
            error.response_data  # pyright: ignore[reportUnknownMemberType] - JSON, checked here
        ).error
    except ValidationError:
        return None, ""
    if isinstance(fault, _Fault):
        return fault.type, (fault.message or fault.type or "")[:_SHOWN]
    return None, (fault or "")[:_SHOWN]


def _retry_after_s(error: APIClientError) -> float | None:
    value = str(error.headers.get("retry-after", ""))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - may be a bare {}
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None
