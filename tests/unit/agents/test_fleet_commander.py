"""fleet-commander: what it is told, and which plans it accepts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import pytest
from pydantic import ValidationError

from qefleet.agents.agent import StepContext
from qefleet.agents.catalogue import built_in
from qefleet.agents.fleet_commander import (
    FleetCommanderOptions,
    check_command,
    in_short,
    standard_plan,
)
from qefleet.agents.test_generator import TestGeneratorOptions
from qefleet.contracts.commands import AgentHistory, Command, estimate
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.runs import Thresholds
from qefleet.memory.artifacts import Artifacts
from qefleet.workspace.workspace import Workspace


def _context(**options: Any) -> StepContext:
    def nowhere() -> AbstractAsyncContextManager[Workspace]:
        raise AssertionError("a commander looks at no file")

    async def nothing(items: object) -> ItemList:
        raise AssertionError(f"a commander lists no {Item}: {items}")

    return StepContext(
        run="r",
        workflow_id="w",
        step="fleet-commander#0",
        options=FleetCommanderOptions(**options),
        thresholds=Thresholds(),
        earlier=[],
        artifacts=cast("Artifacts", None),
        workspace=nowhere,
        unpatched=nowhere,
        catalogue=built_in(),
        keep_items=nothing,
    )


def _command(*tasks: dict[str, Any]) -> Command:
    return Command.model_validate({"tasks": tasks})


def test_the_standard_plan_is_acceptable() -> None:
    """What is done without a model meets all that is asked of a model's plan."""
    check_command(_context(), standard_plan())

    assert [(task.id, task.agent, task.depends_on) for task in standard_plan().tasks] == [
        ("generate", "test-generator", []),
        ("execute", "test-executor", ["generate"]),
        ("cover", "coverage-analyzer", ["generate"]),
    ]


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([], "tasks: List should have at least 1 item"),
        ([{"id": "a"}], "give exactly one of agent, request"),
        ([{"id": "a", "agent": "x", "request": "y"}], "give exactly one of agent, request"),
        ([{"id": "A b", "agent": "x"}], "String should match pattern"),
        ([{"id": "a", "agent": "x"}, {"id": "a", "agent": "x"}], "tasks.1.id: stands twice"),
        ([{"id": "a", "agent": "x", "depends_on": ["b"]}], "tasks.0.depends_on.0: no such task"),
        (
            [{"id": "a", "agent": "x", "depends_on": ["b"]}, {"id": "b", "agent": "x", "depends_on": ["a"]}],
            "tasks: they wait for each other: ",
        ),
        ([{"id": "a", "request": "x", "options": {"y": 1}}], "options go with an agent"),
    ],
    ids=str,
)
def test_what_is_no_plan_is_refused(tasks: list[dict[str, Any]], reason: str) -> None:
    """Ids once, one doer a task, no circles."""
    with pytest.raises(ValidationError) as caught:
        _command(*tasks)

    assert reason in str(caught.value) or reason.removeprefix("tasks: ") in str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        (
            [{"id": "a", "agent": "test-generater"}],
            "tasks.0.agent: no such agent; choose from test-generator, ",
        ),
        ([{"id": "a", "agent": "quality-gate"}], "tasks.0.agent: no such agent; "),
        ([{"id": "a", "agent": "fleet-commander"}], "tasks.0.agent: no such agent; "),
        ([{"id": "a", "request": "the rest"}], "tasks.0.request: no further commanders"),
        (
            [{"id": "a", "agent": "test-generator", "options": {"max_rounds": 9}}],
            "tasks.0.options.max_rounds: Input should be less than or equal to 3",
        ),
        (
            [{"id": "a", "agent": "test-executor", "options": {"retries": 2}}],
            "tasks.0.options.retries: Extra inputs are not permitted",
        ),
        (
            [{"id": f"t{n}", "agent": "test-executor"} for n in range(4)],
            "tasks: 4 tasks, at most 3 are allowed",
        ),
    ],
    ids=str,
)
def test_a_plan_that_can_not_be_followed_is_refused(tasks: list[dict[str, Any]], reason: str) -> None:
    """Against the agents that there are and what they can be told; a model gates nothing."""
    with pytest.raises(ValueError, match="tasks") as caught:
        check_command(_context(max_tasks=3), _command(*tasks))

    assert reason in str(caught.value)


def test_a_part_of_the_request_needs_some_depth() -> None:
    """As far as the workflow allows."""
    check_command(_context(depth_left=1), _command({"id": "a", "request": "the rest"}))


def test_options_in_short() -> None:
    """A model reads types, bounds and defaults in a few words."""
    assert in_short(TestGeneratorOptions) == {
        "max_rounds": "integer, 1 to 3, default 3",
        "max_minutes": "number, default None",
        "max_segments": "integer, 1 to 200, default 12",
        "allow_red": "boolean, default False",
    }


def test_a_plan_is_estimated_from_what_its_agents_took_before() -> None:
    """Chains add up, siblings don't; what was never run is named and in no sum."""
    history = [
        AgentHistory(agent="test-generator", runs=3, median_s=60.0, median_cost_usd=0.25),
        AgentHistory(agent="test-executor", runs=5, median_s=10.0, median_cost_usd=0.0),
    ]

    found = estimate(standard_plan(), history)

    assert (found.critical_path_s, found.work_s, found.cost_usd, found.unknown) == (70, 70, 0.25, ["cover"])
    assert str(found) == "70 s at best, 70 s of work, $0.2500; without cover, never run here before"
    wide = _command({"id": "a", "agent": "test-generator"}, {"id": "b", "agent": "test-executor"})
    assert (estimate(wide, history).critical_path_s, estimate(wide, history).work_s) == (60, 70)
    dear = [*history[:1], history[1].model_copy(update={"median_cost_usd": None})]
    assert estimate(wide, dear).cost_usd is None
