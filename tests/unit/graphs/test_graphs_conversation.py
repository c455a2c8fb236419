"""Which turns of a conversation a step sees."""

from __future__ import annotations

from typing import Any

import pytest

from qefleet.contracts.flows import FlowStep
from qefleet.contracts.operations import Said
from qefleet.graphs.conversation import conversation_of

OPENING = Said(role="user", content={"instruction": "before"})


def step(name: str, *before: str, kind: str = "communicate", **operation: Any) -> FlowStep:
    return FlowStep.model_validate(
        {"id": name, "depends_on": list(before), "operation": {"kind": kind, **operation}}
    )


# Two begin at once on the branch `main`; each line then has one more way to go on.
FLOW = [
    step("a", system="You test.", opening=[OPENING]),
    step("b"),
    step("after-a", "a"),
    step("after-both", "b", "a"),
    step("copy", "a", "b", own=True),
    step("heir", "a", "b", own=True, inherit_from="a"),
    step("heir-s-heir", "heir", own=True, inherit_from="heir"),
    step("asks", "after-both", kind="chat"),
    step("after-asks", "asks"),
    step("elsewhere", "a", branch="other", system="You doubt."),
    step("afresh", "after-both", parameters={"clear_messages": True}),
    step("after-afresh", "afresh"),
]


@pytest.mark.parametrize(
    ("name", "turns"),
    [
        ("a", []),
        ("b", []),
        ("after-a", ["a"]),
        ("after-both", ["a", "b"]),
        ("copy", []),
        ("heir", ["a", "b"]),
        ("heir-s-heir", ["a", "b", "heir"]),
        ("after-asks", ["a", "b", "after-both"]),
        ("elsewhere", []),
        ("afresh", ["a", "b", "after-both"]),
        ("after-afresh", ["afresh"]),
    ],
)
def test_turns(name: str, turns: list[str]) -> None:
    """A step sees what was said on its branch by the steps that end before it, and nothing of the others."""
    assert list(conversation_of(FLOW, name).turns) == turns


@pytest.mark.parametrize(
    ("name", "system", "opening"),
    [
        ("b", "You test.", [OPENING]),
        ("copy", "You test.", [OPENING]),
        ("heir-s-heir", "You test.", [OPENING]),
        ("elsewhere", "You doubt.", []),
        ("after-afresh", "You test.", []),
    ],
)
def test_beginnings(name: str, system: str, opening: list[Said]) -> None:
    """The branch's beginning stands with any of its steps; `clear_messages` leaves the system message."""
    conversation = conversation_of(FLOW, name)

    assert (conversation.system, list(conversation.opening)) == (system, opening)


def test_an_earlier_run_comes_before_the_flow() -> None:
    """What another run has said on the branch belongs to what a copy is made of."""
    flow = [
        step("old", kind="given", parameters={"run": "019ab000-0000-7000-8000-000000000000", "step": "s"}),
        step("new", "old", own=True),
    ]

    assert list(conversation_of(flow, "new").turns) == ["old"]
