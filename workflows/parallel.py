"""`Parallel`: agents side by side; each result or error is kept."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.patterns import ParallelInput, number_steps
from qefleet.contracts.runs import RunResult
from workflows.pattern import Pattern


@workflow.defn(name="Parallel")
class Parallel(Pattern):
    """Runs agents at once, then others in order on all that came of them."""

    @workflow.run
    async def run(self, input: ParallelInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Run all agents; one failure loses no sibling."""
        async with self.running(input, number_steps({"agents": input.agents, "then": input.then})) as run:
            await run.side_by_side(run.of("agents"), input.max_concurrent)
            await run.in_order(run.of("then"))
            return await run.close()
