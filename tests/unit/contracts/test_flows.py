from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qefleet.contracts.flows import FlowInput, FlowStep
from qefleet.contracts.runs import Approval
from worker.plugin import describe

X = "pypi:x==1"


@pytest.mark.parametrize(
    "agents", [{"agent": "test-executor"}, {"agents": ["test-executor", "quality-gate"]}]
)
def test_step_asks_before_its_first_agent(agents: dict[str, Any]) -> None:
    """An approval of a step is one of the first agent that it runs, and of no other."""
    step = FlowStep.model_validate({"id": "run", "approval": {"question": "Now?"}, **agents})

    asked = [spec.spec.approval for spec in step.specs("steps.0")]

    assert asked == [Approval(question="Now?"), None][: len(asked)]


def test_budget_of_a_step_is_its_agents() -> None:
    """As it would be beside the agent in a list."""
    alone = FlowStep.model_validate({"id": "run", "agent": "test-executor", "budget_usd": 0.5})
    listed = FlowStep.model_validate(
        {"id": "run", "agents": [{"agent": "test-executor", "budget_usd": 0.5}, "quality-gate"]}
    )

    assert [spec.spec.budget_usd for spec in alone.specs("steps.0")] == [0.5]
    assert [spec.spec.budget_usd for spec in listed.specs("steps.0")] == [0.5, None]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"steps": [{"id": "a", "agent": "x"}]}, "target: Field required where agents are run"),
        ({"target": X}, "give either flow, the name of one that ships, or steps"),
        ({"target": X, "steps": [{"id": "a"}]}, "steps.0: give exactly one of agent, agents, operation"),
        (
            {"target": X, "steps": [{"id": "a", "agents": ["x"], "on_failure": "continue"}]},
            "steps.0: options, timeout_minutes, budget_usd and on_failure stand with each of agents",
        ),
        (
            {"target": X, "steps": [{"id": "a", "agent": "x", "depends_on": ["b"]}]},
            "steps.0.depends_on.0: no such step",
        ),
        (
            {"target": X, "steps": [{"id": "a", "agent": "x", "when": "coverage < 80"}]},
            "steps.0.when: write a comparison such as 'coverage.line_percent < 80', or an object",
        ),
    ],
)
def test_wrong_flow_is_refused_by_its_field(value: Any, said: str) -> None:
    """The message is one path and one sentence."""
    with pytest.raises(ValidationError) as caught:
        FlowInput.model_validate(value)

    assert describe(caught.value) == said
