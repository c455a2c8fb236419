"""Asking people: before a step, and before the gate's decision is final."""

from __future__ import annotations

from qefleet.contracts.ports import RunPort
from qefleet.contracts.runs import AgentResult, Approval, ApprovalRecord, Decision, StepError
from qefleet.contracts.steps import RecordApproval, StepPlan
from workflows.progress import Board
from workflows.scope import RECORDING, Scope


class Approvals:
    """Whom a run has asked, and what they said.

    Args:
        scope: The run.
        board: Where questions and answers are shown.
    """

    def __init__(self, scope: Scope, board: Board) -> None:
        self.records: list[ApprovalRecord] = []
        self._scope = scope
        self._board = board

    async def refused(self, step: StepPlan) -> AgentResult | None:
        """Ask people about a step, where that is asked for; its result when they say no."""
        if step.approval is None:
            return None
        record = await self._ask(step.step, step.approval)
        if record.verdict == "approved":
            return None
        result = AgentResult(
            step=step.step,
            agent=step.agent,
            status="cancelled",
            headline=record.sentence,
            error=StepError(type="Rejected", message=record.sentence),
        )
        self._board.end(result)
        return result

    async def confirmed(self, decision: Decision | None) -> Decision | None:
        """A gate's decision, or what a person makes of it where that is asked for."""
        approval = self._scope.plan.approval
        if decision is None or approval is None or decision not in approval.of:
            return decision
        question = approval.question or f"The gate says {decision.value}."
        record = await self._ask("decision", approval.model_copy(update={"question": question}))
        return Decision.GO if record.verdict == "approved" else Decision.NO_GO

    async def _ask(self, step: str, approval: Approval) -> ApprovalRecord:
        async def keep(record: ApprovalRecord) -> None:
            request = RecordApproval(**self._scope.ref.model_dump(), approval=record)
            await self._scope.call(RunPort.record_approval, request, RECORDING, f"{step}: keep the answer")

        self._board.enter(f"approval of {step}")
        record = await self._scope.control.ask(step, approval, show=self._board.ask, record=keep)
        self._board.answered(step)
        self._board.note(f"{step} {record.sentence}")
        self.records.append(record)
        return record
