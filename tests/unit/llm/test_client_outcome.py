"""What came of a call, told from the provider's JSON or lionagi's error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from lionagi._errors import ExecutionError
from lionagi.service.resilience import APIClientError

from qefleet.errors import BudgetExceeded, ModelRefused, ModelUnavailable
from qefleet.llm.outcome import RawReply, raw_reply, translated
from qefleet.llm.reply import UnusableReplyError


def failed(status: int, body: Any = None, headers: dict[str, str] | None = None) -> ExecutionError:
    """As lionagi raises it."""
    cause = APIClientError(
        "x", status_code=status, headers=headers, response_data={} if body is None else body
    )
    return ExecutionError("API call failed", cause=cause)


def fault(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def test_openai_s_answer() -> None:
    """Text, finish reason, model and usage come from the places where OpenAI puts them."""
    answer = {
        "model": "gpt",
        "choices": [{"finish_reason": "length", "message": {"content": "half"}}],
        "usage": {"prompt_tokens": 1},
    }

    assert raw_reply(answer, "openai") == RawReply(
        text="half", finish_reason="length", model="gpt", usage={"prompt_tokens": 1}
    )


def test_anthropic_s_answer() -> None:
    """Anthropic's blocks are joined, thinking left out, and its stop reasons get OpenAI's names."""
    answer = {
        "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
        ],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 1},
    }

    assert raw_reply(answer, "anthropic") == RawReply(
        text="ab", finish_reason="length", model="claude", usage={"input_tokens": 1}
    )


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I won't."}}]},
        {"content": [], "stop_reason": "refusal"},
    ],
)
def test_declining_is_a_refusal(answer: dict[str, Any]) -> None:
    """A model that declines isn't asked again: it is told as such."""
    with pytest.raises(ModelRefused, match="declines"):
        raw_reply(answer, "p")


@pytest.mark.parametrize("answer", [None, {}, [], {"choices": [{"message": {"content": 5}}]}, ["x"]])
def test_no_answer_in_it(answer: Any) -> None:
    """What has no readable answer is an unusable reply, not an empty success."""
    with pytest.raises(UnusableReplyError):
        raw_reply(answer, "p")


def test_a_spent_budget() -> None:
    """The gateway's refusal for the budget is an error of its own, in the gateway's words."""
    error = translated(failed(402, fault("budget_exceeded", "spent 2 of 2 USD")), "openai")

    assert isinstance(error, BudgetExceeded)
    assert str(error) == "spent 2 of 2 USD"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "token_refused"),
        (401, "missing_key"),
        (404, "unknown_provider"),
        (400, "price_unknown"),
        (409, "outcome_unknown"),
    ],
)
def test_the_gateway_s_own_refusals(status: int, kind: str) -> None:
    """They aren't tried again, and say what the gateway says, not what a provider would mean."""
    error = translated(failed(status, fault(kind, "set X")), "groq")

    assert isinstance(error, ModelRefused)
    assert str(error) == "the gateway refuses the call to groq: set X"


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "doesn't suit this model"),
        (401, "check GROQ_API_KEY"),
        (402, "no credit left"),
        (403, "may not use this model"),
        (404, "the model's name in QE_MODEL"),
        (413, "too long"),
        (422, "doesn't suit this model"),
    ],
)
def test_a_provider_s_refusal_says_what_to_do(status: int, advice: str) -> None:
    """Each status has its advice, beside the provider's own words."""
    error = translated(failed(status, fault("invalid", "no such thing")), "groq")

    assert isinstance(error, ModelRefused)
    assert advice in str(error)
    assert "no such thing" in str(error)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_transient_statuses(status: int) -> None:
    """These are worth another try, after as long as the other side says."""
    error = translated(failed(status, headers={"retry-after": "7.5"}), "groq")

    assert isinstance(error, ModelUnavailable)
    assert error.retry_after_s == 7.5


def test_retry_after_may_be_a_date() -> None:
    """The header's other form is a date; one that has passed means now."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)

    waits = [
        translated(failed(429, headers={"retry-after": value}), "p") for value in (soon, past, "soon", "-1")
    ]

    found = [wait.retry_after_s for wait in waits if isinstance(wait, ModelUnavailable)]
    assert found[0] is not None
    assert 55 < found[0] <= 60
    assert found[1:] == [0.0, None, 0.0]


@pytest.mark.parametrize("status", [200, 429, 503])
def test_an_error_that_came_as_an_answer(status: int) -> None:
    """It is in the ledger as the answer: trying the same call again would find it there for ever."""
    error = translated(failed(status, {"error": "overloaded"}), "p")

    assert isinstance(error, UnusableReplyError)
    assert "overloaded" in str(error)


def test_a_call_that_lionagi_can_t_make() -> None:
    """A setting that lionagi refuses ends the run: another try would be refused too."""
    assert isinstance(translated(ValueError("temperature"), "p"), ModelRefused)
