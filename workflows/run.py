"""A run, and what a pattern can have it do: run steps in order, side by side or on each item, then close."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from qefleet.contracts.conditions import Condition, Evaluation, evaluate
from qefleet.contracts.flows import FlowStep
from qefleet.contracts.items import ItemList
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.ports import RunPort
from qefleet.contracts.runs import AgentResult, CommonInput, RunOptions, RunResult
from qefleet.contracts.steps import CloseRun, ConditionCheck, OpenRun, Plan, RunRef, StepPlan
from qefleet.contracts.targets import Environment, Snapshot
from workflows.approvals import Approvals
from workflows.control import Control
from workflows.progress import Board
from workflows.scope import PREPARING, RECORDING, Scope, call
from workflows.steps import run_agent

_T = TypeVar("_T")


class Run:
    """One run of a pattern: its identity, its plan, its board, and what came of its steps so far."""

    def __init__(self, pattern: str) -> None:
        info = workflow.info()
        self.ref = RunRef(run=info.first_execution_run_id, workflow_id=info.workflow_id)
        self.board = Board()
        self.control = Control()
        self.results: list[AgentResult] = []
        self.stopped = False
        """A step that may not fail has failed: nothing more is begun."""
        self._pattern = pattern
        self._fields: dict[str, str] = {}
        self._order: list[str] = []
        self._scope: Scope | None = None
        self._approvals: Approvals | None = None
        self._evaluations: list[Evaluation] = []
        self._remarks: list[str] = []
        self._snapshot: Snapshot | None = None
        self._environment: Environment | None = None

    @property
    def scope(self) -> Scope:
        """The run, as its steps see it."""
        assert self._scope is not None, "a run has a scope once it was opened"
        return self._scope

    @property
    def approvals(self) -> Approvals:
        """Whom the run has asked."""
        assert self._approvals is not None, "a run can ask people once it was opened"
        return self._approvals

    @property
    def plan(self) -> Plan:
        """As checked when the run opened."""
        return self.scope.plan

    def of(self, field: str) -> list[StepPlan]:
        """The steps that were asked for in this field of the input, such as `branches.0.agents`."""
        names = [
            step for step, place in self._fields.items() if place == field or place.startswith(f"{field}.")
        ]
        return [step for step in self.plan.steps if step.step in names]

    async def open(
        self,
        run_input: RunOptions,
        specs: Sequence[StepSpec] = (),
        *,
        conditions: Sequence[ConditionCheck] = (),
        flow: str | None = None,
        flow_steps: Sequence[FlowStep] | None = None,
    ) -> None:
        """Have the input checked against the catalogue.

        Raises:
            ApplicationError: Of type `InvalidInput`, naming the field.
        """
        digest = hashlib.sha256(run_input.model_dump_json(by_alias=True).encode()).hexdigest()
        workflow.upsert_memo({"QeInputDigest": digest})
        known = CommonInput.model_fields
        request = OpenRun(
            **self.ref.model_dump(),
            pattern=self._pattern,
            input=CommonInput.model_validate(run_input.model_dump(include=set(known))),
            steps=list(specs),
            conditions=list(conditions),
            flow=flow,
            flow_steps=list(flow_steps) if flow_steps is not None else None,
        )
        plan = await or_fail(call(RunPort.open_run, request, RECORDING, "check the input"))
        self._scope = Scope(ref=self.ref, plan=plan, control=self.control)
        self._approvals = Approvals(self._scope, self.board)
        self._fields = {spec.step: spec.field for spec in specs}
        self._order = [step.step for step in plan.steps]
        self.board.plan(plan)

    async def prepare(self) -> None:
        """Read the target once and install what its code needs."""
        if not self.plan.looks_at_target:
            return
        self.board.enter("snapshot")
        self._snapshot = await or_fail(
            self.scope.call(RunPort.take_snapshot, self.ref, PREPARING, f"snapshot of {self.plan.target}")
        )
        self.board.enter("environment")
        self._environment = await or_fail(
            self.scope.call(RunPort.prepare_environment, self.ref, PREPARING, "install what the code needs")
        )

    async def step(self, step: StepPlan, earlier: Sequence[str] | None = None) -> AgentResult:
        """Run one agent, after a person's approval where that is asked for.

        Args:
            step: Which one, and how.
            earlier: Steps that it builds on; all that have ended without it.
        """
        await self.control.may_go_on()
        before = self.ended_steps() if earlier is None else earlier
        refused = await self.approvals.refused(step)
        return self.note(refused or await run_agent(self.scope, step, before, self.board), step)

    async def in_order(self, steps: Sequence[StepPlan]) -> None:
        """Run agents one after the other, each seeing what came before, until one that may not fail fails."""
        for step in steps:
            if self.stopped:
                break
            await self.step(step)

    async def side_by_side(self, steps: Sequence[StepPlan], limit: int) -> None:
        """Run agents at once, at most `limit`; each sees what came before all of them."""
        before = self.ended_steps()
        room = asyncio.Semaphore(limit)

        async def one(step: StepPlan) -> None:
            async with room:
                await self.step(step, before)

        await together([one(step) for step in steps])

    def holds(self, condition: Condition, label: str, among: Collection[str] | None = None) -> bool:
        """Ask a condition about the results so far, and keep how it came out.

        Args:
            condition: As in the input, checked.
            label: What depends on it.
            among: Steps whose results count; all without it.
        """
        results = [result for result in self.results if among is None or result.step in among]
        evaluation = evaluate(condition, results, label=label)
        self._evaluations.append(evaluation)
        self.board.note(str(evaluation))
        return evaluation.holds

    def remark(self, text: str) -> None:
        """Say something that people find in the result too."""
        self._remarks.append(text)
        self.board.note(text)

    def _tell_budget(self, result: AgentResult) -> None:
        """The run says once that a budget is spent, however many steps have met it."""
        error = result.error
        if error and error.type == "BudgetExceeded" and error.message not in self._remarks:
            self.remark(error.message)

    def planned(self, steps: Sequence[StepPlan]) -> None:
        """Steps became known only now; they stand behind the last one that has ended."""
        ended = self.ended_steps()
        place = max((self._order.index(step) + 1 for step in ended if step in self._order), default=0)
        self._order[place:place] = [step.step for step in steps]
        self.board.add(steps)

    def began(self, step: str) -> None:
        """A step that a commander planned has begun."""
        self.board.start(step)

    def ended(self, result: AgentResult) -> None:
        """A step that a commander planned has ended."""
        self.results.append(result)
        self._tell_budget(result)
        self.board.end(result)

    def items_of(self, steps: Collection[str]) -> ItemList | None:
        """The list that the latest of these steps has found."""
        lists = [result.items for result in self.results if result.step in steps and result.items]
        return lists[-1] if lists else None

    def ended_steps(self) -> list[str]:
        """Names of the steps that have ended, in that order."""
        return [result.step for result in self.results]

    def note(self, result: AgentResult, step: StepPlan) -> AgentResult:
        """Keep a result; a failure of a step that may not fail stops the run.

        Raises:
            CancelledError: The whole run is cancelled; the result is kept.
        """
        self.results.append(result)
        self._tell_budget(result)
        if result.status != "completed" and step.on_failure == "stop":
            self.stopped = True
        if self.control.cancelled:
            raise asyncio.CancelledError
        return result

    async def close(self, *, cancelled: bool = False) -> RunResult:
        """Have people confirm the decision where that is asked for, write the report and sum up.

        Raises:
            ApplicationError: Of type `StepFailed`, when a step that may not fail has failed; its results
                are in the report and the database.
        """
        self.board.skip_rest()
        policies = {step.step: step.on_failure for step in self.plan.steps}
        ended = self._in_order_of_plan()
        failed = next((r for r in ended if r.status != "completed" and policies.get(r.step) == "stop"), None)
        decision = next((result.decision for result in reversed(self.results) if result.decision), None)
        decision = None if cancelled or failed else await self.approvals.confirmed(decision)
        self.board.enter("report")
        request = CloseRun(
            **self.ref.model_dump(),
            steps=[result.step for result in ended],
            decision=decision,
            notes=[*self.plan.notes, *self._remarks],
            failed=failed is not None,
            cancelled=cancelled,
            approvals=self.approvals.records,
            evaluations=self._evaluations,
        )
        closed = await asyncio.shield(
            or_fail(self.scope.call(RunPort.close_run, request, RECORDING, "write the report"))
        )
        self.board.close(decision, closed.usage)
        if failed and failed.error and not cancelled:
            raise ApplicationError(
                f"{failed.step} failed: {failed.error.message}",
                {"step": failed.step, "error": failed.error.type, "report": closed.report.digest},
                type="StepFailed",
                non_retryable=True,
            )
        return RunResult(
            decision=decision,
            target=self.plan.target,
            snapshot=self._snapshot,
            environment=self._environment,
            model=self.plan.model,
            steps=ended,
            usage=closed.usage,
            report=closed.report,
            patch=closed.patch,
            approvals=self.approvals.records,
            evaluations=[str(evaluation) for evaluation in self._evaluations],
            notes=[*self.plan.notes, *self._remarks],
        )

    def _in_order_of_plan(self) -> list[AgentResult]:
        place = {step: position for position, step in enumerate(self._order)}
        return sorted(self.results, key=lambda result: place.get(result.step, len(place)))


async def together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of it; being cancelled cancels all, and waits until each has written down what it had."""
    tasks = [asyncio.create_task(one) for one in work]
    if not tasks:  # a flow whose every step is optional and missing
        return
    try:
        await workflow.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    for task in tasks:
        task.result()


async def or_fail(call: Awaitable[_T]) -> _T:
    """Let an activity's typed error be the workflow's own, so that its first line says what is wrong."""
    try:
        return await call
    except ActivityError as failure:
        if isinstance(failure.cause, ApplicationError):
            raise failure.cause from failure
        raise
