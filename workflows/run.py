"""What every pattern does before its agents and after them: open, prepare, close."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityConfig

from qefleet.contracts.ports import RunPort
from qefleet.contracts.runs import AgentResult, RunInput, RunResult
from qefleet.contracts.steps import CloseRun, OpenRun, Plan, RunRef
from qefleet.contracts.targets import Environment, Snapshot
from workflows.progress import Board
from workflows.steps import RECORDING, call

_T = TypeVar("_T")

_PREPARING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=2), maximum_interval=timedelta(seconds=30), maximum_attempts=8
    ),
)


class Run:
    """One run of a pattern: its identity, its plan, its board, and its beginning and end."""

    def __init__(self, pattern: str) -> None:
        info = workflow.info()
        self.ref = RunRef(run=info.first_execution_run_id, workflow_id=info.workflow_id)
        self.board = Board()
        self._pattern = pattern
        self._plan: Plan | None = None
        self._snapshot: Snapshot | None = None
        self._environment: Environment | None = None

    async def open(self, run_input: RunInput) -> Plan:
        """Have the input checked against the catalogue.

        Raises:
            ApplicationError: Of type `InvalidInput`, naming the field.
        """
        request = OpenRun(**self.ref.model_dump(), pattern=self._pattern, input=run_input)
        self._plan = await _or_fail(call(RunPort.open_run, request, RECORDING, "check the input"))
        self.board.plan(self._plan)
        return self._plan

    async def prepare(self) -> None:
        """Read the target once and install what its code needs."""
        assert self._plan is not None, "a run is prepared after it was opened"
        self.board.enter("snapshot")
        self._snapshot = await _or_fail(
            call(RunPort.take_snapshot, self.ref, _PREPARING, f"snapshot of {self._plan.target}")
        )
        self.board.enter("environment")
        self._environment = await _or_fail(
            call(RunPort.prepare_environment, self.ref, _PREPARING, "install what the code needs")
        )

    async def close(self, results: Sequence[AgentResult]) -> RunResult:
        """Write the report and sum up.

        Raises:
            ApplicationError: Of type `StepFailed`, when a step that may not fail has failed; its results
                are in the report and the database.
        """
        assert self._plan is not None, "a run is closed after it was opened"
        self.board.skip_rest()
        self.board.enter("report")
        policies = {step.step: step.on_failure for step in self._plan.steps}
        failed = next((r for r in results if r.status == "failed" and policies[r.step] == "stop"), None)
        decision = next((r.decision for r in reversed(results) if r.decision), None)
        notes = list(self._plan.notes)
        closed = await _or_fail(
            call(
                RunPort.close_run,
                CloseRun(
                    **self.ref.model_dump(),
                    steps=[r.step for r in results],
                    decision=decision,
                    notes=notes,
                    failed=failed is not None,
                ),
                RECORDING,
                "write the report",
            )
        )
        self.board.close(decision, closed.usage)
        if failed and failed.error:
            raise ApplicationError(
                f"{failed.step} failed: {failed.error.message}",
                {"step": failed.step, "error": failed.error.type, "report": closed.report.digest},
                type="StepFailed",
                non_retryable=True,
            )
        return RunResult(
            decision=decision,
            target=self._plan.target,
            snapshot=self._snapshot,
            environment=self._environment,
            model=self._plan.model,
            steps=list(results),
            usage=closed.usage,
            report=closed.report,
            patch=closed.patch,
            notes=notes,
        )


async def _or_fail(call: Awaitable[_T]) -> _T:
    """Let an activity's typed error be the workflow's own, so that its first line says what is wrong."""
    try:
        return await call
    except ActivityError as failure:
        if isinstance(failure.cause, ApplicationError):
            raise failure.cause from failure
        raise
