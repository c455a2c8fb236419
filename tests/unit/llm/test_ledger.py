"""What makes two requests the same call."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from qefleet.llm.ledger import Call
from qefleet.llm.tokens import CallIdentity

IDENTITY = CallIdentity(run_id=UUID(int=1), workflow_id="wf", step="a#0", agent="a", ordinal=0)


def _call(
    body: str = '{"model": "m", "n": 1}', *, who: CallIdentity = IDENTITY, provider: str = "openai"
) -> Call:
    return Call(who, provider, "m", "chat/completions", body.encode(), json.loads(body))


def test_spelling_does_not_matter() -> None:
    """The same JSON with other blanks and another order is the same call."""
    assert _call('{"n":1,"model":"m"}').key == _call().key


def test_the_agent_does_not_matter() -> None:
    """The step names the call; the agent is only told for people."""
    assert _call(who=IDENTITY.model_copy(update={"agent": "b"})).key == _call().key


@pytest.mark.parametrize(
    "other",
    [
        _call('{"model": "m", "n": 2}'),
        _call(provider="groq"),
        _call(who=IDENTITY.model_copy(update={"run_id": UUID(int=2)})),
        _call(who=IDENTITY.model_copy(update={"workflow_id": "other"})),
        _call(who=IDENTITY.model_copy(update={"step": "a#1"})),
        _call(who=IDENTITY.model_copy(update={"ordinal": 1})),
    ],
    ids=["request", "provider", "run", "workflow", "step", "ordinal"],
)
def test_what_tells_calls_apart(other: Call) -> None:
    """Any part of the identity, the request or the provider makes another call."""
    assert other.key != _call().key
