"""`Hierarchical`: a commander decomposes a request into tasks, which are run as child workflows."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.children import Bounds
from qefleet.contracts.commands import estimate
from qefleet.contracts.patterns import HierarchicalInput, number_steps
from qefleet.contracts.runs import RunResult
from workflows.commanding import Division, command_of, history_of
from workflows.pattern import Pattern


@workflow.defn(name="Hierarchical")
class Hierarchical(Pattern):
    """Commands, carries the plan out to a stated depth, then runs what looks at all."""

    @workflow.run
    async def run(self, input: HierarchicalInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Decompose, carry out, close."""
        depth_left = input.max_depth - 1
        told = {"request": input.request, "depth_left": depth_left, "max_tasks": input.max_tasks}
        commander = input.commander.model_copy(update={"options": input.commander.options | told})
        bounds = Bounds(depth_left=depth_left, max_tasks=input.max_tasks, max_concurrent=input.max_concurrent)
        async with self.running(input, number_steps({"commander": commander, "then": input.then})) as run:
            (step,) = run.of("commander")
            result = await run.step(step)
            if not run.stopped:
                command = command_of(result)
                run.remark(f"the plan by earlier runs: {estimate(command, history_of(result))}")
                division = Division(run.scope, step, bounds, name="task", report=run)
                await division.carry_out(command, run.ended_steps())
            await run.in_order(run.of("then"))
            return await run.close()
