"""`Pipeline`: agents one after the other, each seeing the results of those before it."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.progress import Progress
from qefleet.contracts.runs import AgentResult, PipelineInput, RunResult
from workflows.run import Run
from workflows.steps import run_agent


@workflow.defn(name="Pipeline")
class Pipeline:
    """Runs agents in order; stops at the first failure unless the agent says `on_failure: continue`."""

    # Not `@workflow.init`: its arguments are checked before the interceptor that refuses a missing input.
    def __init__(self) -> None:
        self._run = Run("Pipeline")

    @workflow.run
    async def run(self, input: PipelineInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Open, prepare, run each agent, close."""
        run = self._run
        plan = await run.open(input)
        await run.prepare()
        results: list[AgentResult] = []
        for step in plan.steps:
            earlier = [result.step for result in results if result.status == "completed"]
            results.append(await run_agent(run.ref, plan, step, earlier, run.board))
            if results[-1].status == "failed" and step.on_failure == "stop":
                break
        return await run.close(results)

    @workflow.query(description="How far the run is: one line an agent.")
    def progress(self) -> Progress:
        """How far the run is."""
        return self._run.board.snapshot()
