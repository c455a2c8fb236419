"""`Flow`: steps that depend on each other, with conditions and expansions, from one JSON document."""

from __future__ import annotations

import asyncio

from temporalio import workflow

from qefleet.contracts.flows import FlowInput, FlowStep, ancestors
from qefleet.contracts.runs import RunResult
from qefleet.contracts.steps import StepPlan
from workflows.expanding import on_each, write_list
from workflows.pattern import Pattern
from workflows.run import Run, together


@workflow.defn(name="Flow")
class Flow(Pattern):
    """Begins each step as soon as all that it depends on have ended."""

    @workflow.run
    async def run(self, input: FlowInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Run the graph, then close."""
        async with self.running(input, flow=input.flow, flow_steps=input.steps) as run:
            graph = _Graph(run, run.plan.flow, input.max_concurrent)
            await together([graph.node(step) for step in run.plan.flow])
            return await run.close()


class _Graph:
    """A flow's steps while they are run."""

    def __init__(self, run: Run, steps: list[FlowStep], limit: int) -> None:
        self._run = run
        self._before = ancestors(steps)
        self._plans = {
            step.id: [
                plan
                for name in ([spec.step for spec in step.specs("")] or [step.id])
                for plan in run.plan.steps
                if plan.step == name
            ]
            for step in steps
        }
        self._ended = {step.id: asyncio.Event() for step in steps}
        self._skipped: set[str] = set()
        self._room = asyncio.Semaphore(limit)

    async def node(self, step: FlowStep) -> None:
        """Wait for what it depends on, then run it or skip it."""
        for name in step.before:
            await self._ended[name].wait()
        try:
            async with self._room:
                await self._run_or_skip(step)
        finally:
            self._ended[step.id].set()

    async def _run_or_skip(self, step: FlowStep) -> None:
        run, plans = self._run, self._plans[step.id]
        earlier = [
            plan.step
            for name in self._before[step.id]
            if name not in self._skipped
            for plan in self._plans[name]
        ]
        cut_off = bool(step.before) and all(name in self._skipped for name in step.before)
        if run.stopped or cut_off or not (step.when is None or run.holds(step.when, step.id, earlier)):
            self._skip(step)
            return
        if step.for_each:
            await self._expand(step, plans, earlier)
            return
        for plan in plans:
            result = await run.step(plan, earlier)
            earlier.append(result.step)
            if run.stopped:
                return

    async def _expand(self, step: FlowStep, plans: list[StepPlan], earlier: list[str]) -> None:
        assert step.for_each is not None, "an expansion has a list"
        run, each = self._run, step.for_each
        items = (
            run.items_of([plan.step for plan in self._plans[each.step]])
            if each.step
            else await write_list(run, step.id, items=each.items, files=each.files)
        )
        if items is None or items.count == 0:
            run.board.note(f"{step.id}: nothing to run on, its list is empty")
            self._skip(step)
            return
        await on_each(
            run, plans, items, max_concurrent=each.max_concurrent, max_items=each.max_items, earlier=earlier
        )

    def _skip(self, step: FlowStep) -> None:
        self._skipped.add(step.id)
        self._run.board.skip([plan.step for plan in self._plans[step.id]])
