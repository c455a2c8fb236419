"""The only way in which any workflow runs an agent: measure, judge, record.

A looped agent (one that proposes and tries, such as test-generator) does the same in rounds, each of
them in the history, so that a crash costs one round at most. Deterministic; talks to the world through
the ports of `qefleet.contracts` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.workflow import ActivityConfig

from qefleet.contracts.ports import AgentPort
from qefleet.contracts.runs import AgentResult, StepError, Usage
from qefleet.contracts.steps import (
    Answer,
    Conclude,
    Finding,
    Judge,
    Plan,
    RecordStep,
    Round,
    RunRef,
    StepPlan,
    StepRef,
    Trial,
    Verdict,
    WorkItem,
)
from workflows.progress import Board

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_HEARTBEAT = timedelta(seconds=15)

# Every time-out and retry of an agent's step in one place. Measuring repeats what another worker's
# death interrupted; asking waits out a provider's bad hour; recording must not be lost at all.
MEASURING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=60),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=20
    ),
)
ASKING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=30),
    schedule_to_close_timeout=timedelta(hours=2),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
RECORDING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=2),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30)
    ),
)

_ENDS_LOOP = ("BudgetExceeded", "ModelRefused", "ModelUnavailable")
"""Failures after which asking for another item is pointless; anything else costs one item only."""


async def call(
    method: Callable[[Any, _In], Awaitable[_Out]], request: _In, config: ActivityConfig, summary: str
) -> _Out:
    """Execute an activity, with a summary for the UI."""
    how = config | ActivityConfig(summary=summary)
    return await workflow.execute_activity_method(method, request, **how)


async def run_agent(
    run: RunRef, plan: Plan, step: StepPlan, earlier: Sequence[str], board: Board
) -> AgentResult:
    """Run one agent and write its result down; a failure is a result too.

    Args:
        run: The run that the step belongs to.
        plan: The run's checked plan.
        step: Which agent, and how.
        earlier: Steps whose results and patches this one builds on, in order.
        board: Where progress is shown.

    Returns:
        The result as recorded, with its usage taken from the ledger.
    """
    ref = StepRef(run=run.run, workflow_id=run.workflow_id, step=step.step, earlier=list(earlier))
    started = workflow.now()
    board.start(step.step)
    finding: Finding | None = None
    judged = None
    error: StepError | None = None
    try:
        finding = await call(AgentPort.measure, ref, MEASURING, f"{step.title}: measure")
        board.say(step.step, finding.headline)
        if step.looped and finding.work:
            finding, error = await _Loop(ref, plan, step, board).run(finding)
    except ActivityError as failure:
        error = _step_error(failure)
    status = "failed" if error else "completed"
    if finding and not error and plan.uses_model and finding.evidence:
        # What was measured stands, whether or not a model can be had to judge it.
        try:
            judge = Judge(**ref.model_dump(), evidence=finding.evidence)
            judged = await call(AgentPort.judge, judge, ASKING, f"{step.title}: judge")
        except ActivityError as failure:
            error = _step_error(failure)
    result = _result(step, status, finding, error, (workflow.now() - started).total_seconds())
    recorded = await call(
        AgentPort.record,
        RecordStep(
            run=run.run, workflow_id=run.workflow_id, result=result, judgement=judged and judged.content
        ),
        RECORDING,
        f"{step.title}: record",
    )
    result = result.model_copy(update=dict(recorded))
    board.end(result)
    return result


class _Loop:
    """Rounds of propose and try over a list of items, until all are done or the time is up."""

    def __init__(self, ref: StepRef, plan: Plan, step: StepPlan, board: Board) -> None:
        self._ref = ref
        self._plan = plan
        self._step = step
        self._board = board
        self._notes: list[str] = []
        self._error: StepError | None = None
        self._usage = Usage()
        self._kept = 0

    async def run(self, finding: Finding) -> tuple[Finding, StepError | None]:
        assert finding.state is not None, "a finding with work has a state"
        state = finding.state
        deadline = self._deadline()
        for position, item in enumerate(finding.work):
            if deadline and workflow.now() >= deadline:
                left = len(finding.work) - position
                self._notes.append(f"{left} of {len(finding.work)} items not tried: max_minutes was reached")
                break
            so_far = f"{self._kept} kept; " if position else ""
            self._board.say(self._step.step, f"{so_far}{position + 1}/{len(finding.work)} {item.title}")
            state = await self._work_on(item, state)
            if self._error:
                break
        final = await call(
            AgentPort.conclude,
            Conclude(**self._ref.model_dump(), state=state, notes=self._notes),
            MEASURING,
            f"{self._step.title}: conclude",
        )
        return final, self._error

    def _deadline(self) -> datetime | None:
        minutes = self._step.max_minutes
        return workflow.now() + timedelta(minutes=minutes) if minutes else None

    async def _work_on(self, item: WorkItem, state: str) -> str:
        feedback = None
        rounds = self._step.max_rounds if self._plan.uses_model else 1
        for number in range(1, rounds + 1):
            proposal = Round(
                **self._ref.model_dump(exclude={"earlier"}),
                item=item.id,
                round=number,
                state=state,
                feedback=feedback,
            )
            label = f"{self._step.title}: {item.title}, round {number}"
            answer = await self._propose(proposal, label)
            if answer is None or answer.content is None:
                return state
            verdict = await self._try(proposal, answer.content, label)
            if verdict is None:
                return state
            state, feedback = verdict.state, verdict.feedback
            self._kept += verdict.kept
            self._board.say(self._step.step, verdict.headline)
            if verdict.done:
                break
        return state

    async def _propose(self, proposal: Round, label: str) -> Answer | None:
        """A model's proposal, or a tool's where no model is used; None when none is to be had."""
        try:
            if not self._plan.uses_model:
                return await call(AgentPort.draft, proposal, MEASURING, f"{label}: draft")
            answer = await call(AgentPort.propose, proposal, ASKING, f"{label}: propose")
        except ActivityError as failure:
            self._forgive(failure, label)
            return None
        self._usage += answer.usage
        self._board.spend(self._step.step, self._usage)
        return answer

    async def _try(self, proposal: Round, answer: str, label: str) -> Verdict | None:
        try:
            return await call(
                AgentPort.try_proposal,
                Trial(**proposal.model_dump(), answer=answer),
                MEASURING,
                f"{label}: try",
            )
        except ActivityError as failure:
            self._forgive(failure, label)
            return None

    def _forgive(self, failure: ActivityError, label: str) -> None:
        """One item's failure costs that item; what ends the loop is remembered."""
        error = _step_error(failure)
        if error.type in _ENDS_LOOP:
            self._error = error
        self._notes.append(f"{label}: {error.type}: {error.message}")


def _step_error(failure: ActivityError) -> StepError:
    """Why an activity failed.

    Raises:
        ActivityError: It was cancelled, which is not a failure of the step.
    """
    if is_cancelled_exception(failure):
        raise failure
    cause = failure.cause
    if isinstance(cause, ApplicationError):
        return StepError(type=cause.type or "ApplicationError", message=cause.message)
    return StepError(type=type(cause or failure).__name__, message=str(cause or failure))


def _result(
    step: StepPlan,
    status: Literal["completed", "failed"],
    finding: Finding | None,
    error: StepError | None,
    duration_s: float,
) -> AgentResult:
    result = AgentResult(step=step.step, agent=step.agent, status=status, error=error, duration_s=duration_s)
    if finding is None:
        return result.model_copy(update={"headline": f"{error.type}: {error.message}" if error else ""})
    return result.model_copy(
        update={
            "headline": finding.headline,
            "decision": finding.decision,
            "measured": finding.measurement,
            "artifacts": finding.artifacts,
            "patch": finding.patch,
            "notes": finding.notes,
        }
    )
