"""What all patterns have in common: how a run begins and ends, and what people can ask and tell it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from temporalio import workflow

from qefleet.contracts.control import ApprovalAnswer, ExpansionProgress, StepName
from qefleet.contracts.flows import FlowStep
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.progress import Progress
from qefleet.contracts.runs import ApprovalRecord, RunOptions
from qefleet.contracts.steps import ConditionCheck
from workflows.run import Run


class Pattern:
    """Base of every pattern: subclasses say in `run` what is done between opening and closing."""

    # Not `@workflow.init`: its arguments are checked before the interceptor that refuses a missing input.
    def __init__(self) -> None:
        self._run = Run(workflow.info().workflow_type)

    @asynccontextmanager
    async def running(
        self,
        run_input: RunOptions,
        specs: Sequence[StepSpec] = (),
        *,
        conditions: Sequence[ConditionCheck] = (),
        flow: str | None = None,
        flow_steps: Sequence[FlowStep] | None = None,
    ) -> AsyncGenerator[Run]:
        """Open and prepare a run; when it is cancelled in the block, write down what there is, then end.

        Args:
            run_input: The workflow's input.
            specs: Its steps, as far as they are known.
            conditions: Conditions of the input, to be checked.
            flow: Name of a flow that ships, in place of `specs`.
            flow_steps: A flow, in place of `specs`.
        """
        run = self._run
        await run.open(run_input, specs, conditions=conditions, flow=flow, flow_steps=flow_steps)
        try:
            await run.prepare()
            yield run
        except asyncio.CancelledError:
            run.control.cancelled = True
            await run.close(cancelled=True)
            raise
        finally:
            # A run that is dropped in the middle, with its worker, has no event loop any more.
            if not isinstance(sys.exception(), GeneratorExit):
                await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.query(description="How far the run is: one line an agent.")
    def progress(self) -> Progress:
        """How far the run is."""
        return self._run.board.snapshot()

    @workflow.update(description='Approve what waits: {"by": "you", "why": "…"}; "step" where several wait.')
    async def approve(self, answer: ApprovalAnswer) -> ApprovalRecord:
        """Approve what waits for a person."""
        return self._run.control.answer(answer, approved=True)

    @approve.validator
    def _can_approve(self, answer: ApprovalAnswer) -> None:
        self._run.control.check_answer(answer)

    @workflow.update(description='Reject what waits: {"by": "you", "why": "…"}; "step" where several wait.')
    async def reject(self, answer: ApprovalAnswer) -> ApprovalRecord:
        """Reject what waits for a person."""
        return self._run.control.answer(answer, approved=False)

    @reject.validator
    def _can_reject(self, answer: ApprovalAnswer) -> None:
        self._run.control.check_answer(answer)

    @workflow.update(description='Stop one running step and keep what it has: {"step": "test-generator#0"}.')
    async def cancel_agent(self, request: StepName) -> None:
        """Stop one step; its siblings go on."""
        self._run.control.cancel_step(request)

    @cancel_agent.validator
    def _can_cancel_agent(self, request: StepName) -> None:
        self._run.control.check_running(request)

    @workflow.update(description="Begin nothing more until `resume`; what runs is finished.")
    async def pause(self) -> None:
        """Hold everything back that hasn't begun."""
        await self._run.control.set_paused(True)
        self._run.board.pause(True)

    @workflow.update(description="Go on after `pause`.")
    async def resume(self) -> None:
        """Go on."""
        await self._run.control.set_paused(False)
        self._run.board.pause(False)

    @workflow.signal(description="From an expansion of this run: how far it is.")
    async def expansion_progress(self, progress: ExpansionProgress) -> None:
        """Show how far an expansion is."""
        for step in progress.steps:
            self._run.board.say(step, progress.headline)
