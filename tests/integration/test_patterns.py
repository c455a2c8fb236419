"""The patterns on a real Temporal server, with activities that answer at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeFleet
from on_a_server import SUGGESTED_AFTER, replays, start, working
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts.patterns import ReleaseInput
from qefleet.contracts.runs import Decision, RunResult

_AFTER_MEASURING = [
    spec
    for part in (ReleaseInput.model_validate("pypi:x==1"),)
    for spec in (*part.hunt, *part.generate, *part.review, *part.gate)
]
X = "pypi:x==1"


def failing(step: str) -> Callable[[str, Any], None]:
    def fail(name: str, request: Any) -> None:
        if name == "measure" and request.step == step:
            raise ApplicationError("no such tool", type="MissingTool", non_retryable=True)

    return fail


def statuses(result: RunResult) -> dict[str, str]:
    return {step.step: step.status for step in result.steps}


async def test_parallel_keeps_each_result_and_error(temporal: WorkflowEnvironment) -> None:
    """One failure loses no sibling; what comes after them sees all."""
    agents = [{"agent": "test-executor", "on_failure": "continue"}, "coverage-analyzer", "test-executor"]
    fleet = FakeFleet(fail=failing("test-executor#0"))
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": X, "agents": agents}, kind="Parallel")
        result = await handle.result()

        assert statuses(result) == {
            "test-executor#0": "failed",
            "coverage-analyzer#1": "completed",
            "test-executor#2": "completed",
            "quality-gate#3": "completed",
        }
        assert result.steps[0].error
        assert (result.steps[0].error.type, result.decision) == ("MissingTool", Decision.GO)
        assert await replays(handle)


async def test_parallel_that_may_not_fail_still_keeps_siblings(temporal: WorkflowEnvironment) -> None:
    """With `on_failure: stop` the siblings end, and nothing comes after them."""
    fleet = FakeFleet(fail=failing("test-executor#0"))
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, X, kind="Parallel")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

    assert "test-executor#0 failed: no such tool" in str(caught.value.cause)
    assert {name: result.status for name, result in fleet.results.items()} == {
        "test-executor#0": "failed",
        "coverage-analyzer#1": "completed",
    }


async def test_hanging_agent_is_stopped_at_its_time(temporal: WorkflowEnvironment) -> None:
    """A step with a time limit fails with `TimedOut`, and its siblings have long ended."""
    agents = [
        {"agent": "test-executor", "timeout_minutes": 0.05, "on_failure": "continue"},
        "coverage-analyzer",
    ]
    fleet = FakeFleet(hang="test-executor#0")
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": X, "agents": agents}, kind="Parallel")
        result = await handle.result()

        assert result.steps[0].error
        assert (result.steps[0].status, result.steps[0].error.type) == ("failed", "TimedOut")
        assert statuses(result)["coverage-analyzer#1"] == "completed"
        assert await replays(handle)


async def test_fan_out_works_on_each_part_and_joins(temporal: WorkflowEnvironment) -> None:
    """The splitting agent's list is worked on part by part; the join sees the sum."""
    fleet = FakeFleet(parts=3, items=1)
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, X, kind="FanOutFanIn")
        result = await handle.result()

        assert statuses(result) == {
            "coverage-analyzer#0": "completed",
            "test-generator#1": "completed",
            "test-executor#2": "completed",
            "coverage-analyzer#3": "completed",
            "quality-gate#4": "completed",
        }
        assert result.steps[1].headline == "3 of 3 items"
        assert {name for name in fleet.results if "/" in name} == {f"test-generator#1/{n}" for n in range(3)}
        assert await replays(handle)


async def test_fan_out_of_nothing_goes_on_to_the_join(temporal: WorkflowEnvironment) -> None:
    """No parts, no work; the join still decides."""
    async with working(temporal, FakeFleet(parts=0)) as queue:
        result = await (await start(temporal, queue, X, kind="FanOutFanIn")).result()

    assert "test-generator#1" not in statuses(result)
    assert result.decision is Decision.GO


async def test_expansion_continues_as_new_and_loses_no_item(temporal: WorkflowEnvironment) -> None:
    """Many items: each is recorded once, and no history grows beyond what Temporal suggests."""
    fleet = FakeFleet()
    items = [f"item-{n}" for n in range(150)]
    async with working(temporal, fleet) as queue:
        handle = await start(
            temporal,
            queue,
            {"target": X, "over": items, "agents": ["test-executor"], "then": [], "max_concurrent": 40},
            kind="ParallelExpansion",
        )
        result = await handle.result()
        runs = [
            execution
            async for execution in temporal.client.list_workflows(
                f"WorkflowId = '{handle.id}/test-executor#0'"
            )
        ]

        assert result.steps[0].headline == "150 of 150 items"
        assert fleet.calls["record"] == 150
        assert len(runs) > 1
        assert max(run.history_length for run in runs) < 2 * SUGGESTED_AFTER
        assert await replays(handle)


async def test_item_that_fails_costs_itself_alone(temporal: WorkflowEnvironment) -> None:
    """The other items' results are there."""
    fleet = FakeFleet(fail=failing("test-executor#0/1"))
    async with working(temporal, fleet) as queue:
        result = await (
            await start(
                temporal,
                queue,
                {"target": X, "over": ["a", "b", "c"], "agents": ["test-executor"], "then": []},
                kind="ParallelExpansion",
            )
        ).result()

    assert result.steps[0].headline == "2 of 3 items"
    assert {name: found.status for name, found in fleet.results.items()} == {
        "test-executor#0/0": "completed",
        "test-executor#0/1": "failed",
        "test-executor#0/2": "completed",
    }


async def test_conditional_takes_the_first_branch_that_holds(temporal: WorkflowEnvironment) -> None:
    """Each condition that was asked is in the result, with the figure that it was told from."""
    branches = [
        {"when": "coverage.line_percent < 50", "agents": ["test-generator"]},
        {"when": {"and": ["coverage.line_percent < 80"]}, "agents": ["test-executor"]},
        {"when": "coverage.line_percent < 99", "agents": ["test-generator"]},
    ]
    value = {"target": X, "agents": ["coverage-analyzer"], "branches": branches}
    async with working(temporal, FakeFleet()) as queue:
        handle = await start(temporal, queue, value, kind="Conditional")
        result = await handle.result()

        assert list(statuses(result)) == ["coverage-analyzer#0", "test-executor#2", "quality-gate#4"]
        fact = "[coverage.line_percent = 75 (coverage-analyzer#0)]"
        assert result.evaluations == [
            f"branches.0: coverage.line_percent < 50 does not hold {fact}",
            f"branches.1: coverage.line_percent < 80 holds {fact}",
        ]
        assert await replays(handle)


async def test_release_measures_generates_and_gates(temporal: WorkflowEnvironment) -> None:
    """Tests are generated where the suite is green and little is covered; people are asked if CONDITIONAL."""
    fleet = FakeFleet(items=1)
    async with working(temporal, fleet) as queue:
        handle = await start(
            temporal, queue, {"target": X, "measure": ["test-executor", "coverage-analyzer"]}, kind="Release"
        )
        result = await handle.result()

        assert list(statuses(result)) == [
            "test-executor#0",
            "coverage-analyzer#1",
            *(f"{spec.agent}#{n}" for n, spec in enumerate(_AFTER_MEASURING, start=2)),
        ]
        assert fleet.approval
        assert fleet.approval.of == [Decision.CONDITIONAL]
        assert any(text.startswith("generate: ") and " holds " in text for text in result.evaluations)
        assert await replays(handle)


async def test_release_of_what_is_red_generates_nothing(temporal: WorkflowEnvironment) -> None:
    """What could not be measured holds no condition up."""
    fleet = FakeFleet(fail=failing("test-executor#0"))
    measure = [
        {"agent": "test-executor", "on_failure": "continue"},
        {"agent": "coverage-analyzer", "on_failure": "continue"},
    ]
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": X, "measure": measure}, kind="Release")
        result = await handle.result()

        assert {r.agent for r in result.steps} & {"test-generator", "flaky-test-hunter"} == set()
        assert result.steps[0].status == "failed"
        assert result.steps[-1].agent == "quality-gate"
        assert await replays(handle)


async def test_flow_runs_what_depends_on_each_other(temporal: WorkflowEnvironment) -> None:
    """Steps wait for what they depend on; skipped ones skip what hangs on them alone."""
    steps = [
        {"id": "coverage", "agent": "coverage-analyzer"},
        {
            "id": "low",
            "agent": "test-executor",
            "depends_on": ["coverage"],
            "when": "coverage.line_percent < 50",
        },
        {"id": "after-low", "agent": "test-executor", "depends_on": ["low"]},
        {"id": "parts", "agents": ["test-generator", "test-executor"], "for_each": "coverage"},
        {"id": "gate", "agent": "quality-gate", "depends_on": ["parts", "after-low"]},
    ]
    fleet = FakeFleet(parts=2, items=1)
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": X, "steps": steps}, kind="Flow")
        result = await handle.result()
        progress = await handle.query("progress")

        assert statuses(result) == {
            "coverage": "completed",
            "parts.test-generator": "completed",
            "parts.test-executor": "completed",
            "gate": "completed",
        }
        assert [step["status"] for step in progress["steps"] if "low" in step["step"]] == ["skipped"] * 2
        assert "parts.test-executor/1" in fleet.results
        assert await replays(handle)


async def test_commander_commands_commanders_to_the_stated_depth(temporal: WorkflowEnvironment) -> None:
    """Tasks are child workflows; what a sub-commander's tasks gave is reported upward."""
    commands = {
        "fleet-commander#0": {
            "tasks": [
                {"id": "run", "agent": "test-executor"},
                {"id": "deeper", "request": "look at coverage", "depends_on": ["run"]},
            ]
        },
        "task-2.fleet-commander": {"tasks": [{"id": "cover", "agent": "coverage-analyzer"}]},
    }
    fleet = FakeFleet(commands=commands)
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": X, "request": "test it"}, kind="Hierarchical")
        result = await handle.result()

        assert list(statuses(result).items()) == [
            ("fleet-commander#0", "completed"),
            ("task-1.test-executor", "completed"),
            ("task-2.fleet-commander", "completed"),
            ("task-2-1.coverage-analyzer", "completed"),
            ("quality-gate#1", "completed"),
        ]
        assert result.decision is Decision.GO
        assert await replays(handle)


async def test_task_that_fails_loses_no_other(temporal: WorkflowEnvironment) -> None:
    """Its siblings and the gate still run."""
    tasks = [{"id": "a", "agent": "test-executor"}, {"id": "b", "agent": "coverage-analyzer"}]
    fleet = FakeFleet(commands={"fleet-commander#0": {"tasks": tasks}}, fail=failing("task-1.test-executor"))
    async with working(temporal, fleet) as queue:
        result = await (await start(temporal, queue, X, kind="Hierarchical")).result()

    assert statuses(result)["task-1.test-executor"] == "failed"
    assert statuses(result)["task-2.coverage-analyzer"] == "completed"
    assert statuses(result)["quality-gate#1"] == "completed"
