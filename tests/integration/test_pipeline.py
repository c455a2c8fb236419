"""The Pipeline workflow on a real Temporal server, with activities that answer at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import FakeFleet
from on_a_server import replays, start, working
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts import attributes
from qefleet.contracts.progress import Progress
from qefleet.contracts.runs import Decision, RunResult

GENERATOR = {"target": "pypi:x==1", "agents": ["test-generator"]}


async def test_agents_run_in_order_and_the_gate_decides(temporal: WorkflowEnvironment) -> None:
    """Each agent is measured and recorded once; the last decision is the run's."""
    fleet = FakeFleet()
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, "pypi:x==1")
        result: RunResult = await handle.result()

    assert [step.step for step in result.steps] == [
        "test-generator#0",
        "test-executor#1",
        "coverage-analyzer#2",
        "quality-gate#3",
    ]
    assert result.decision is Decision.GO
    assert (fleet.calls["measure"], fleet.calls["record"], fleet.calls["propose"]) == (4, 4, 2)
    assert result.steps[2].judged == {"said": "so"}
    assert await replays(handle)


async def test_progress_shows_each_agent(temporal: WorkflowEnvironment) -> None:
    """The query, the search attributes and the details in the UI say the same."""
    async with working(temporal, FakeFleet()) as queue:
        handle = await start(temporal, queue, "pypi:x==1")
        await handle.result()
        progress = await handle.query("progress", result_type=Progress)
        metadata = json.dumps(str(await handle.query("__temporal_workflow_metadata")))
        described = await handle.describe()

    assert [step.status for step in progress.steps] == ["completed"] * 4
    assert "quality-gate" in metadata
    found = described.typed_search_attributes
    shown = [found.get(key) for key in (attributes.DECISION, attributes.TARGET, attributes.PHASE)]
    assert shown == ["GO", "pypi:x==1", "done"]


async def test_failed_step_stops_the_run_and_fails_it(temporal: WorkflowEnvironment) -> None:
    """What comes after a failed step isn't run; the failure says which step and why."""

    def fail(name: str, request: Any) -> None:
        if name == "measure" and request.step == "test-executor#1":
            raise ApplicationError("no pytest", type="MissingTool", non_retryable=True)

    fleet = FakeFleet(fail=fail)
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, "pypi:x==1")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

    assert isinstance(caught.value.cause, ApplicationError)
    assert (caught.value.cause.type, caught.value.cause.message) == (
        "StepFailed",
        "test-executor#1 failed: no pytest",
    )
    assert (fleet.calls["record"], fleet.calls["close_run"]) == (2, 1)
    assert await replays(handle)


async def test_failed_step_that_may_fail_costs_no_sibling(temporal: WorkflowEnvironment) -> None:
    """With `on_failure: continue` the others keep their results."""

    def fail(name: str, request: Any) -> None:
        if name == "measure" and request.step == "test-executor#1":
            raise ApplicationError("no pytest", type="MissingTool", non_retryable=True)

    agents = [
        "test-generator",
        {"agent": "test-executor", "on_failure": "continue"},
        "coverage-analyzer",
        "quality-gate",
    ]
    async with working(temporal, FakeFleet(fail=fail)) as queue:
        handle = await start(temporal, queue, {"target": "pypi:x==1", "agents": agents})
        result: RunResult = await handle.result()

    assert [step.status for step in result.steps] == ["completed", "failed", "completed", "completed"]
    assert result.steps[1].error is not None
    assert result.steps[1].error.type == "MissingTool"


async def test_spent_budget_ends_the_loop_and_keeps_what_it_had(temporal: WorkflowEnvironment) -> None:
    """No further item is asked for once the budget is spent; the loop still concludes."""

    def fail(name: str, request: Any) -> None:
        if name == "propose" and request.item == "m:f1":
            raise ApplicationError("spent", type="BudgetExceeded", non_retryable=True)

    fleet = FakeFleet(items=4, fail=fail)
    async with working(temporal, fleet) as queue:
        result: RunResult = await (
            await start(
                temporal,
                queue,
                {"target": "pypi:x==1", "agents": [{"agent": "test-generator", "on_failure": "continue"}]},
            )
        ).result()

    assert (fleet.calls["propose"], fleet.calls["try_proposal"], fleet.calls["conclude"]) == (2, 1, 1)
    assert result.steps[0].error is not None
    assert (result.steps[0].error.type, result.steps[0].headline) == (
        "BudgetExceeded",
        "concluded; stopped by its budget",
    )


async def test_unusable_reply_costs_one_item(temporal: WorkflowEnvironment) -> None:
    """A model whose replies for one item can't be used is still asked for the next."""

    def fail(name: str, request: Any) -> None:
        if name == "propose" and request.item == "m:f0":
            raise ApplicationError("rubbish", type="ModelUnusable", non_retryable=True)

    fleet = FakeFleet(items=3, fail=fail)
    async with working(temporal, fleet) as queue:
        result: RunResult = await (await start(temporal, queue, GENERATOR)).result()

    assert fleet.calls["try_proposal"] == 2
    assert result.steps[0].notes == ["test-generator: f0, round 1: ModelUnusable: rubbish"]


async def test_history_of_a_model_call_is_small_and_constant(temporal: WorkflowEnvironment) -> None:
    """A hundred model calls: each costs the same few events and under 3 KB, whatever came before it."""
    sizes: dict[int, int] = {}
    for items in (10, 100):
        async with working(temporal, FakeFleet(items=items)) as queue:
            handle = await start(temporal, queue, GENERATOR)
            await handle.result()
            events = (await handle.fetch_history()).events
            # Without the list of items, which the first measurement carries.
            sizes[items] = sum(event.ByteSize() for event in events) - 70 * items

    assert (sizes[100] - sizes[10]) / 90 < 3 * 1024


async def test_mistyped_workflow_type_fails_at_once(temporal: WorkflowEnvironment) -> None:
    """A type that doesn't exist is refused with those that do."""
    async with working(temporal, FakeFleet()) as queue:
        handle = await start(temporal, queue, "pypi:x==1", kind="Pipelin")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

    assert "known: Pipeline, Parallel" in str(caught.value.cause)
