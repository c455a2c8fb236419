"""How the fleet asks a model: one question, a typed answer, each attempt a row in the ledger."""

from __future__ import annotations

from qefleet.errors import ModelUnusable
from qefleet.llm.call import Call, call_model
from qefleet.llm.question import Question, Reply, T, json_schema, user_text
from qefleet.llm.reply import UnusableReplyError, read_answer
from qefleet.llm.tokens import CallIdentity, mint

__all__ = ["ATTEMPTS", "ModelClient", "Question", "Reply"]

ATTEMPTS = 3
"""A question takes up to so many ordinals, from its identity's own on."""


class ModelClient:
    """Asks models through the gateway.

    Args:
        gateway_url: Where it listens, such as `http://127.0.0.1:8234`; see `Call.gateway_url` for what
            lionagi reaches.
        secret: Signs the capabilities (`QE_GATEWAY_SECRET`).
        timeout_s: For one call, from sending it to its whole answer.
    """

    def __init__(self, *, gateway_url: str, secret: str, timeout_s: int = 600) -> None:
        self._gateway_url = gateway_url
        self._secret = secret
        self._timeout_s = timeout_s

    async def ask(self, question: Question[T], *, model: str, identity: CallIdentity) -> Reply[T]:
        """Ask until an answer can be used, three times at most.

        Args:
            question: What is asked.
            model: `provider/name`, or `local`.
            identity: Whose call this is; the same identity and question get the same answer, paid once.

        Raises:
            BudgetExceeded: The run has spent its budget.
            ModelRefused: The provider refuses the call for good, or its model declines.
            ModelUnavailable: Worth another try later, after `retry_after_s` where it is given.
            ModelUnusable: No reply could be used.
        """
        complaint: str | None = None
        for attempt in range(ATTEMPTS):
            ordinal = identity.ordinal + attempt
            token = mint(identity.model_copy(update={"ordinal": ordinal}), self._secret)
            try:
                raw = await call_model(self._call(question, model, token, complaint))
                value = read_answer(
                    raw.text,
                    question.response,
                    cut_off=raw.finish_reason == "length",
                    check=question.check,
                )
            except UnusableReplyError as error:
                complaint = str(error)
                continue
            return Reply(
                value=value,
                text=raw.text,
                ordinal=ordinal,
                attempts=attempt + 1,
                finish_reason=raw.finish_reason,
                model=raw.model,
                usage=raw.usage,
            )
        raise ModelUnusable(
            f"{model} was asked {ATTEMPTS} times and gave nothing usable; about the last reply: {complaint} "
            "`qe calls` shows what it wrote."
        )

    def _call(self, question: Question[T], model: str, token: str, complaint: str | None) -> Call:
        return Call(
            gateway_url=self._gateway_url,
            token=token,
            model=model,
            system=question.system,
            text=user_text(question, complaint),
            max_output_tokens=question.max_output_tokens,
            temperature=question.temperature,
            schema=json_schema(question.response),
            schema_name=question.response.__name__,
            native_schema=question.native_schema,
            timeout_s=self._timeout_s,
            past=question.past,
        )
