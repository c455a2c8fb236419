"""What people tell a run: approve, reject, pause, stop a step, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakes import FakeFleet
from on_a_server import Handle, replays, start, tell, working
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts.progress import Progress
from qefleet.contracts.runs import Decision

X = "pypi:x==1"
ASKED = {"target": X, "agents": ["quality-gate"], "approval": {"timeout_hours": 1}}
BEFORE_STEP = {
    "target": X,
    "agents": [{"agent": "test-executor", "approval": True}, "quality-gate"],
}


async def progress_of(handle: Handle) -> Progress:
    return await handle.query("progress", result_type=Progress)


async def until(handle: Handle, wanted: Callable[[Progress], Any]) -> Progress:
    async with asyncio.timeout(30):
        while not wanted(progress := await progress_of(handle)):  # noqa: ASYNC110 - it is the server that knows
            await asyncio.sleep(0.1)
    return progress


async def said(update: Awaitable[Any]) -> str:
    """Why an update is refused."""
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await update
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.message


async def test_gate_waits_for_a_person(temporal: WorkflowEnvironment) -> None:
    """The run waits, shows what it waits for, and goes on with who approved and why on record."""
    fleet = FakeFleet()
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, ASKED)
        progress = await until(handle, lambda found: found.asked)
        await tell(handle, "approve", {"by": "ada", "why": "looked at it"})
        result = await handle.result()

        assert (progress.asked[0].step, progress.asked[0].question) == ("decision", "The gate says GO.")
        assert result.decision is Decision.GO
        (approval,) = result.approvals
        assert (approval.verdict, approval.by, approval.why) == ("approved", "ada", "looked at it")
        assert fleet.approvals == [approval]
        assert await replays(handle)


async def test_rejected_decision_is_no_go(temporal: WorkflowEnvironment) -> None:
    """A person who says no has the last word."""
    async with working(temporal, FakeFleet()) as queue:
        handle = await start(temporal, queue, ASKED)
        await until(handle, lambda found: found.asked)
        await tell(handle, "reject", {"by": "ada", "why": "Friday"})
        result = await handle.result()

    assert result.decision is Decision.NO_GO


@pytest.mark.parametrize(("default", "decision"), [("reject", Decision.NO_GO), ("approve", Decision.GO)])
async def test_nobody_answers(temporal: WorkflowEnvironment, default: str, decision: Decision) -> None:
    """After the time-out the stated default holds, and says that it is one."""
    approval = {"timeout_hours": 0.0005, "on_timeout": default}
    async with working(temporal, FakeFleet()) as queue:
        handle = await start(temporal, queue, ASKED | {"approval": approval})
        result = await handle.result()

    assert (result.decision, result.approvals[0].by) == (decision, "timeout")


async def test_unusable_answers_are_refused_in_words(temporal: WorkflowEnvironment) -> None:
    """Nobody, an unknown step, a second answer and one before its time each say what is wrong."""
    value = {"target": X, "agents": [{"agent": "test-executor", "approval": True}], "approval": True}
    fleet = FakeFleet(hang="test-executor#0")
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, value)
        await until(handle, lambda found: found.asked)
        nobody = await said(tell(handle, "approve", {"by": " ", "why": "x"}))
        unknown = await said(tell(handle, "approve", {"by": "ada", "step": "nothing"}))
        await tell(handle, "approve", {"by": "ada"})
        again = await said(tell(handle, "reject", {"by": "bob"}))
        await handle.cancel()

    assert nobody.startswith("by: say who you are")
    assert unknown == "step: 'nothing' asks nobody"
    assert again.startswith("test-executor#0 was approved by ada at ")


async def test_mistyped_answer_is_refused_and_costs_nothing(temporal: WorkflowEnvironment) -> None:
    """An answer of the wrong shape fails the update alone; the run goes on waiting."""
    async with working(temporal, FakeFleet()) as queue:
        handle = await start(temporal, queue, ASKED)
        await until(handle, lambda found: found.asked)
        with pytest.raises(WorkflowUpdateFailedError):
            await tell(handle, "approve", {"by": 7, "who": "x"})
        still = await progress_of(handle)
        await tell(handle, "approve", {"by": "ada"})
        result = await handle.result()

    assert [asked.step for asked in still.asked] == ["decision"]
    assert result.decision is Decision.GO


async def test_rejected_step_is_not_run(temporal: WorkflowEnvironment) -> None:
    """A step that a person refuses stops the run as a failed one would."""
    fleet = FakeFleet()
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, BEFORE_STEP)
        await until(handle, lambda found: found.asked)
        await tell(handle, "reject", {"by": "ada", "why": "too dear"})
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

    assert "test-executor#0 failed: rejected by ada: too dear" in str(caught.value.cause)
    assert fleet.calls["measure"] == 0


async def test_paused_run_begins_nothing(temporal: WorkflowEnvironment) -> None:
    """While it is paused no step is begun; after `resume` it goes on."""
    fleet = FakeFleet()
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, BEFORE_STEP)
        await until(handle, lambda found: found.asked)
        await tell(handle, "pause")
        await tell(handle, "approve", {"by": "ada"})
        await asyncio.sleep(1)
        measured = fleet.calls["measure"]
        paused = (await progress_of(handle)).paused
        await tell(handle, "resume")
        result = await handle.result()

        assert (measured, paused) == (0, True)
        assert result.decision is Decision.GO
        assert await replays(handle)


async def test_one_step_is_stopped_and_the_others_go_on(temporal: WorkflowEnvironment) -> None:
    """`cancel_agent` ends one step, with who and why; its siblings keep their results."""
    agents = [{"agent": "test-executor", "on_failure": "continue"}, "coverage-analyzer"]
    fleet = FakeFleet(hang="test-executor#0")
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": X, "agents": agents}, kind="Parallel")
        await until(handle, lambda found: [s.status for s in found.steps][:2] == ["running", "completed"])
        refused = await said(tell(handle, "cancel_agent", {"step": "coverage-analyzer#1"}))
        stop = {"step": "test-executor#0", "by": "ada", "why": "hangs"}
        await tell(handle, "cancel_agent", stop)
        result = await handle.result()

        assert refused == "step: 'coverage-analyzer#1' doesn't run; running: test-executor#0"
        assert [step.status for step in result.steps] == ["cancelled", "completed", "completed"]
        assert result.steps[0].error
        assert result.steps[0].error.message == "cancelled by ada: hangs"
        assert await replays(handle)


async def test_cancelled_run_keeps_what_was_measured(temporal: WorkflowEnvironment) -> None:
    """What has ended is recorded, what runs is recorded as cancelled, and the report is written."""
    value = {"target": X, "agents": ["coverage-analyzer", "test-executor", "quality-gate"]}
    fleet = FakeFleet(hang="test-executor#1")
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, value)
        await until(handle, lambda found: found.steps and found.steps[1].status == "running")
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

        assert isinstance(caught.value.cause, CancelledError)
        assert {name: result.status for name, result in fleet.results.items()} == {
            "coverage-analyzer#0": "completed",
            "test-executor#1": "cancelled",
        }
        assert fleet.calls["close_run"] == 1
        assert await replays(handle)


async def test_stopped_expansion_sums_up_what_it_had(temporal: WorkflowEnvironment) -> None:
    """Stopping an expansion keeps the items that had ended."""
    agents = [{"agent": "test-executor", "on_failure": "continue"}]
    value = {"target": X, "over": ["a", "b", "c"], "agents": agents, "then": []}
    fleet = FakeFleet(hang="test-executor#0/2")
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, value, kind="ParallelExpansion")
        await until(handle, lambda _: len(fleet.results) == 2)
        await tell(handle, "cancel_agent", {"step": "test-executor#0", "by": "ada"})
        result = await handle.result()

        assert (result.steps[0].status, result.steps[0].headline) == ("cancelled", "2 of 3 items")
        assert fleet.results["test-executor#0/2"].status == "cancelled"
        assert await replays(handle)


async def test_pause_reaches_expansions(temporal: WorkflowEnvironment) -> None:
    """A paused run's expansion begins no further item."""
    value = {"target": X, "over": [str(n) for n in range(40)], "agents": ["test-executor"], "then": []}
    fleet = FakeFleet()
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, value | {"max_concurrent": 1}, kind="ParallelExpansion")
        await until(handle, lambda _: fleet.results)
        await tell(handle, "pause")
        await asyncio.sleep(1)
        before = len(fleet.results)
        await asyncio.sleep(1)
        after = len(fleet.results)
        await tell(handle, "resume")
        result = await handle.result()

    assert before == after < 40
    assert result.steps[0].headline == "40 of 40 items"
