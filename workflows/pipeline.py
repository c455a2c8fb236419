"""`Pipeline`: agents one after the other, each seeing the results of those before it."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.patterns import PipelineInput, number_steps
from qefleet.contracts.runs import RunResult
from workflows.pattern import Pattern


@workflow.defn(name="Pipeline")
class Pipeline(Pattern):
    """Runs agents in order; stops at the first failure unless the agent says `on_failure: continue`."""

    @workflow.run
    async def run(self, input: PipelineInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Run each agent, then close."""
        async with self.running(input, number_steps({"agents": input.agents})) as run:
            await run.in_order(run.of("agents"))
            return await run.close()
