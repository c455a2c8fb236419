"""What people tell a run while it goes on: pause, stop one step, approve or reject."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from qefleet.contracts.control import ApprovalAnswer, Asked, StepName
from qefleet.contracts.runs import Approval, ApprovalRecord, StepError

Child = workflow.ChildWorkflowHandle[Any, Any]


@dataclass
class _Question:
    asked: Asked
    record: ApprovalRecord | None = None


class Control:
    """Holds steps back, stops them, and asks people; tells child workflows to do the same."""

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self.cancelled = False
        """The whole run is cancelled: what runs is stopped and written down, nothing more is begun."""
        self._running: dict[str, StepError | None] = {}
        self._children: dict[str, Child] = {}
        self._questions: dict[str, _Question] = {}

    async def may_go_on(self) -> None:
        """Wait while the run is paused."""
        await workflow.wait_condition(lambda: not self.paused)

    async def until_done(
        self, step: str, work: asyncio.Task[None], *, timeout_minutes: float | None
    ) -> StepError | None:
        """Wait for a step's work; stop it when somebody says so or its time is up.

        Returns:
            Why it was stopped; None when it ended by itself.
        """
        self._running[step] = None
        reason: StepError | None = None
        try:
            await workflow.wait_condition(
                lambda: work.done() or self._running[step] is not None,
                timeout=timedelta(minutes=timeout_minutes) if timeout_minutes else None,
                timeout_summary=f"{step}: its time",
            )
            reason = self._running[step]
        except TimeoutError:
            reason = StepError(type="TimedOut", message=f"not done within {timeout_minutes:g} minutes")
        except asyncio.CancelledError:
            self.cancelled = True
            reason = StepError(type="Cancelled", message="the run was cancelled")
        finally:
            del self._running[step]
        if not reason:
            work.result()  # a bug in the work is the step's, and the run's, error
        elif not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return reason

    async def through_child(self, step: str, child: Child) -> StepError | None:
        """Wait for a child workflow that does a step's work; pass on what people say meanwhile.

        Returns:
            Why it was stopped; None when it ended by itself.
        """
        self._children[step] = child

        async def end() -> None:
            await child

        try:
            work = asyncio.create_task(end())
            return await self.until_done(step, work, timeout_minutes=None)
        finally:
            del self._children[step]

    async def set_paused(self, paused: bool) -> None:
        """Pause or go on, and have children do so."""
        self.paused = paused
        for child in list(self._children.values()):
            try:
                await child.signal("pause" if paused else "resume")
            except ApplicationError:  # it has ended meanwhile
                continue

    def check_running(self, request: StepName) -> None:
        """Refuse to cancel what doesn't run.

        Raises:
            ApplicationError: The message says what runs.
        """
        if request.step not in self._running:
            running = ", ".join(self._running) or "nothing"
            raise _refused(f"step: {request.step!r} doesn't run; running: {running}")

    def cancel_step(self, request: StepName) -> None:
        """Stop one step; what it has measured is kept."""
        who = f" by {request.by}" if request.by else ""
        why = f": {request.why}" if request.why else ""
        self._running[request.step] = StepError(type="Cancelled", message=f"cancelled{who}{why}")

    async def ask(
        self,
        step: str,
        approval: Approval,
        *,
        show: Callable[[Asked], None],
        record: Callable[[ApprovalRecord], Awaitable[None]],
    ) -> ApprovalRecord:
        """Ask people and wait for one of them, or for the time-out.

        Args:
            step: What waits.
            approval: How long, and what happens then.
            show: Shows the question.
            record: Keeps the answer.
        """
        now = workflow.now()
        question = _Question(
            Asked(
                step=step,
                question=approval.question,
                since=now,
                until=now + timedelta(hours=approval.timeout_hours),
                on_timeout="approved" if approval.on_timeout == "approve" else "rejected",
            )
        )
        self._questions[step] = question
        show(question.asked)
        try:
            await workflow.wait_condition(
                lambda: question.record is not None,
                timeout=timedelta(hours=approval.timeout_hours),
                timeout_summary=f"{step} waits for a person",
            )
        except TimeoutError:
            hours = f"{approval.timeout_hours:g}"
            answer = ApprovalAnswer(by="timeout", why=f"nobody answered within {hours} hours")
            self._answer(question, answer, approved=approval.on_timeout == "approve")
        assert question.record is not None, "an answered question has a record"
        await record(question.record)
        return question.record

    def check_answer(self, answer: ApprovalAnswer) -> None:
        """Refuse an answer that can't be taken.

        Raises:
            ApplicationError: Nobody is named, nothing waits, or it has been answered; the message says so.
        """
        if not answer.by.strip():
            raise _refused('by: say who you are, such as {"by": "ada", "why": "looked at the gaps"}')
        self._question(answer)

    def answer(self, answer: ApprovalAnswer, *, approved: bool) -> ApprovalRecord:
        """Take a person's answer."""
        return self._answer(self._question(answer), answer, approved=approved)

    def _answer(self, question: _Question, answer: ApprovalAnswer, *, approved: bool) -> ApprovalRecord:
        question.record = ApprovalRecord(
            step=question.asked.step,
            verdict="approved" if approved else "rejected",
            by=answer.by.strip(),
            why=answer.why,
            asked_at=question.asked.since,
            answered_at=workflow.now(),
        )
        return question.record

    def _question(self, answer: ApprovalAnswer) -> _Question:
        """The question that an answer is meant for."""
        waiting = [question for question in self._questions.values() if question.record is None]
        if answer.step is not None:
            found = self._questions.get(answer.step)
            if found is None:
                raise _refused(f"step: {answer.step!r} asks nobody")
        elif len(waiting) == 1:
            found = waiting[0]
        elif waiting:
            raise _refused(f"step: say which, of {', '.join(q.asked.step for q in waiting)}")
        elif self._questions:
            found = list(self._questions.values())[-1]
        else:
            raise _refused("nothing waits for approval")
        if found.record:
            said = found.record
            raise _refused(
                f"{said.step} was {said.verdict} by {said.by} at {said.answered_at:%Y-%m-%d %H:%M} UTC"
            )
        return found


def _refused(reason: str) -> ApplicationError:
    """Ends an update before it changes anything; the Temporal CLI prints the reason and exits 1."""
    return ApplicationError(reason, type="InvalidInput", non_retryable=True)
