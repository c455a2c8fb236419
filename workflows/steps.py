"""The only way in which any workflow runs an agent: measure, judge, record.

A looped agent (one that proposes and tries, such as test-generator) does the same in rounds, each of
them in the history, so that a crash costs one round at most. Deterministic; talks to the world through
the ports of `qefleet.contracts` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from qefleet.contracts.base import Digest
from qefleet.contracts.learning import Choice, Policy
from qefleet.contracts.ports import AgentPort
from qefleet.contracts.runs import AgentResult, StepError, StepStatus, Usage
from qefleet.contracts.steps import (
    Answer,
    ChooseDepth,
    ChooseStrategy,
    Conclude,
    Finding,
    Judge,
    RecordStep,
    RewardStrategy,
    Round,
    StepPlan,
    StepRef,
    Trial,
    Verdict,
    WorkItem,
)
from workflows.progress import StepView
from workflows.scope import ASKING, MEASURING, RECORDING, Scope

_HEADLINE = 120
_ENDS_LOOP = ("BudgetExceeded", "ModelRefused", "ModelUnavailable")
"""Failures after which asking for another item is pointless; anything else costs one item only."""


async def run_agent(
    scope: Scope,
    step: StepPlan,
    earlier: Sequence[str],
    view: StepView,
    *,
    items: str | None = None,
    ordinal: int | None = None,
    name: str = "",
) -> AgentResult:
    """Run one agent and write its result down; a failure is a result too, and so is being stopped.

    Args:
        scope: The run that the step belongs to.
        step: Which agent, and how.
        earlier: Steps whose results and patches this one builds on, in order.
        view: Where progress is shown.
        items: The list that the step's one item is from, in an expansion.
        ordinal: The item's place in it.
        name: The item's, for people.

    Returns:
        The result as recorded, with its usage taken from the ledger.
    """
    in_run = step.step if ordinal is None else f"{step.step}/{ordinal}"
    ref = StepRef(**scope.ref.model_dump(), step=in_run, earlier=list(earlier), items=items)
    started = workflow.now()
    view.start(step.step)
    work = _Work(scope, ref, step, view, f"{step.title}: {name}" if name else step.title)
    stopped = await scope.control.until_done(
        in_run, asyncio.create_task(work.run()), timeout_minutes=step.timeout_minutes
    )
    result = work.result(stopped, (workflow.now() - started).total_seconds())
    recorded = await asyncio.shield(
        scope.call(
            AgentPort.record,
            RecordStep(**scope.ref.model_dump(), result=result, judgement=work.judgement),
            RECORDING,
            f"{work.title}: record",
        )
    )
    result = result.model_copy(update=dict(recorded))
    if step.operation and result.judged:
        result = result.model_copy(update={"headline": str(result.judged["result"])[:_HEADLINE]})
    view.end(result)
    return result


class _Work:
    """Measuring and judging; what it has when it is stopped is kept."""

    def __init__(self, scope: Scope, ref: StepRef, step: StepPlan, view: StepView, title: str) -> None:
        self.title = title
        self.judgement: Digest | None = None
        self._scope = scope
        self._ref = ref
        self._step = step
        self._view = view
        self._finding: Finding | None = None
        self._error: StepError | None = None
        self._failed = False

    async def run(self) -> None:
        if self._step.operation:
            await self._operate()
            return
        await self._measure()
        if not self._failed:
            await self._judge()

    async def _measure(self) -> None:
        scope, step = self._scope, self._step
        await scope.control.may_go_on()
        try:
            self._finding = await scope.call(
                AgentPort.measure, self._ref, MEASURING, f"{self.title}: measure"
            )
            self._view.say(step.step, self._finding.headline)
            if step.looped and self._finding.work:
                loop = _Loop(scope, self._ref, step, self._view, self.title)
                self._finding, self._error = await loop.run(self._finding)
        except ActivityError as failure:
            self._error = step_error(failure)
        self._failed = self._error is not None

    async def _judge(self) -> None:
        scope, finding = self._scope, self._finding
        if not (scope.plan.uses_model and finding and finding.evidence):
            return
        await scope.control.may_go_on()
        # What was measured stands, whether or not a model can be had to judge it.
        try:
            judge = Judge(**self._ref.model_dump(), evidence=finding.evidence)
            judged = await scope.call(AgentPort.judge, judge, ASKING, f"{self.title}: judge")
            self.judgement = judged.content
        except ActivityError as failure:
            self._error = step_error(failure)
            self._failed = self._step.needs_judgement

    async def _operate(self) -> None:
        """A node of a lionagi graph: one call, nothing measured."""
        await self._scope.control.may_go_on()
        try:
            answer = await self._scope.call(AgentPort.operate, self._ref, ASKING, self.title)
            self.judgement = answer.content
        except ActivityError as failure:
            self._error = step_error(failure)
            self._failed = True

    def result(self, stopped: StepError | None, duration_s: float) -> AgentResult:
        """What is to be recorded."""
        error = stopped or self._error
        status: StepStatus = "failed" if self._failed else "completed"
        if stopped:
            status = "failed" if stopped.type == "TimedOut" else "cancelled"
        result = AgentResult(
            step=self._ref.step, agent=self._step.agent, status=status, error=error, duration_s=duration_s
        )
        finding = self._finding
        if finding is None:
            headline = f"{error.type}: {error.message}" if error else ""
            if error and error.type == "Cancelled":
                headline = error.message  # says so itself
            return result.model_copy(update={"headline": headline})
        spent = status == "failed" and error is not None and error.type == "BudgetExceeded"
        return result.model_copy(
            update={
                "headline": f"{finding.headline}; stopped by its budget" if spent else finding.headline,
                "decision": finding.decision,
                "measured": finding.measurement,
                "artifacts": finding.artifacts,
                "patch": finding.patch,
                "items": finding.items,
                "notes": finding.notes,
            }
        )


class _Loop:
    """Rounds of propose and try over a list of items, until all are done or the time is up."""

    def __init__(self, scope: Scope, ref: StepRef, step: StepPlan, view: StepView, title: str) -> None:
        self._scope = scope
        self._ref = ref
        self._step = step
        self._view = view
        self._title = title
        self._notes: list[str] = []
        self._error: StepError | None = None
        self._usage = Usage()
        self._kept = 0
        self._tells = True
        """What came of the item in hand tells something of its strategy."""

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
            self._view.say(self._step.step, f"{so_far}{position + 1}/{len(finding.work)} {item.title}")
            await self._scope.control.may_go_on()
            state = await self._learn_on(item, position, state)
            if self._error:
                break
        final = await self._scope.call(
            AgentPort.conclude,
            Conclude(**self._ref.model_dump(), state=state, notes=self._notes),
            MEASURING,
            f"{self._title}: conclude",
        )
        return final, self._error

    def _deadline(self) -> datetime | None:
        minutes = self._step.max_minutes
        return workflow.now() + timedelta(minutes=minutes) if minutes else None

    async def _learn_on(self, item: WorkItem, position: int, state: str) -> str:
        """Work on an item by a strategy that is chosen for it and rewarded, or as ever where none is."""
        if self._step.policy is Policy.OFF:
            return await self._work_on(item, position, state, None)
        ref, label = self._ref.model_dump(exclude={"earlier"}), f"{self._title}: {item.title}"
        choose = ChooseStrategy(**ref, item=item.id, position=position, state=state)
        try:
            choice = await self._scope.call(AgentPort.choose_strategy, choose, RECORDING, f"{label}: choose")
        except ActivityError as failure:
            self._forgive(failure, label)
            return state
        self._tells = True
        state = await self._work_on(item, position, state, choice)
        if self._tells:
            reward = RewardStrategy(**ref, item=item.id, position=position, state=state)
            await self._scope.call(
                AgentPort.reward_strategy, reward, RECORDING, f"{label}: reward {choice.strategy}"
            )
        return state

    async def _goes_on(self, item: WorkItem, position: int, state: str, number: int, kept: int) -> bool:
        """Whether a round after the first one is worth it; where nothing is learned, it always is."""
        if number == 1 or self._step.policy is not Policy.LEARNED:
            return True
        ref = self._ref.model_dump(exclude={"earlier"})
        choose = ChooseDepth(**ref, item=item.id, position=position, state=state, round=number, kept=kept)
        label = f"{self._title}: {item.title}, round {number}: choose"
        return (await self._scope.call(AgentPort.choose_depth, choose, RECORDING, label)).goes_on

    async def _work_on(self, item: WorkItem, position: int, state: str, choice: Choice | None) -> str:
        feedback = None
        kept = 0
        asks = choice.uses_model if choice else self._scope.plan.uses_model
        rounds = self._step.max_rounds if asks else 1
        for number in range(1, rounds + 1):
            if not await self._goes_on(item, position, state, number, kept):
                break
            proposal = Round(
                **self._ref.model_dump(exclude={"earlier"}),
                item=item.id,
                round=number,
                state=state,
                feedback=feedback,
                strategy=choice.strategy if choice else None,
                tier=choice.tier if choice else None,
            )
            label = f"{self._title}: {item.title}, round {number}"
            answer = await self._propose(proposal, label, asks=asks)
            if answer is None or answer.content is None:
                return state
            verdict = await self._try(proposal, answer.content, label)
            if verdict is None:
                return state
            state, feedback = verdict.state, verdict.feedback
            kept += verdict.kept
            self._kept += verdict.kept
            self._view.say(self._step.step, verdict.headline)
            if verdict.done:
                break
        return state

    async def _propose(self, proposal: Round, label: str, *, asks: bool) -> Answer | None:
        """A model's proposal, or a tool's where no model is asked; None when none is to be had."""
        try:
            if not asks:
                drafted = await self._scope.call(AgentPort.draft, proposal, MEASURING, f"{label}: draft")
                self._notes += [f"{label}: {drafted.note}"] if drafted.note else []
                return drafted
            answer = await self._scope.call(AgentPort.propose, proposal, ASKING, f"{label}: propose")
        except ActivityError as failure:
            self._forgive(failure, label)
            return None
        self._usage += answer.usage
        self._view.spend(self._step.step, self._usage)
        return answer

    async def _try(self, proposal: Round, answer: str, label: str) -> Verdict | None:
        try:
            return await self._scope.call(
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
        error = step_error(failure)
        self._tells = error.type == "ModelUnusable"
        if error.type in _ENDS_LOOP:
            self._error = error
        self._notes.append(f"{label}: {error.type}: {error.message}")


def step_error(failure: ActivityError) -> StepError:
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
