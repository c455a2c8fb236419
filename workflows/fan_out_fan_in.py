"""`FanOutFanIn`: one agent splits the work, others work on the parts, others bring it together."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.patterns import FanOutFanInInput, number_steps
from qefleet.contracts.runs import RunResult
from workflows.expanding import on_each
from workflows.pattern import Pattern


@workflow.defn(name="FanOutFanIn")
class FanOutFanIn(Pattern):
    """Splits, works on each part at once, joins."""

    @workflow.run
    async def run(self, input: FanOutFanInInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Split, work, join; without parts there is nothing to work on, and the join says so."""
        specs = number_steps({"split": input.split, "workers": input.workers, "join": input.join})
        async with self.running(input, specs) as run:
            (split,) = run.of("split")
            parts = (await run.step(split)).items
            if parts and parts.count and not run.stopped:
                await on_each(
                    run,
                    run.of("workers"),
                    parts,
                    max_concurrent=input.max_concurrent,
                    max_items=input.max_items,
                )
            await run.in_order(run.of("join"))
            return await run.close()
