"""`ParallelExpansion`: agents on each item of a list that is known only at run time."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.items import ItemList
from qefleet.contracts.patterns import ParallelExpansionInput, Source, number_steps
from qefleet.contracts.runs import RunResult
from workflows.expanding import on_each, write_list
from workflows.pattern import Pattern
from workflows.run import Run


@workflow.defn(name="ParallelExpansion")
class ParallelExpansion(Pattern):
    """Finds the list, works on many items at once, sums up; ten thousand items are ordinary."""

    @workflow.run
    async def run(self, input: ParallelExpansionInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """List, expand, then run what looks at all."""
        specs = number_steps(
            {"over.agent": input.over.agent or [], "agents": input.agents, "then": input.then}
        )
        async with self.running(input, specs) as run:
            items = await _list(run, input.over)
            if items and items.count and not run.stopped:
                await on_each(
                    run,
                    run.of("agents"),
                    items,
                    max_concurrent=input.max_concurrent,
                    max_items=input.max_items,
                )
            await run.in_order(run.of("then"))
            return await run.close()


async def _list(run: Run, over: Source) -> ItemList | None:
    if over.agent is None:
        return await write_list(run, "over", items=over.items, files=over.files)
    (agent,) = run.of("over.agent")
    return (await run.step(agent)).items
