"""`Conditional`: agents, then the first branch whose condition holds over their results."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.patterns import ConditionalInput, number_steps
from qefleet.contracts.runs import RunResult
from qefleet.contracts.steps import ConditionCheck
from workflows.pattern import Pattern


@workflow.defn(name="Conditional")
class Conditional(Pattern):
    """Measures, asks the conditions in order, runs the first branch that holds; each answer is kept."""

    @workflow.run
    async def run(self, input: ConditionalInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Measure, branch, close."""
        branches = {f"branches.{n}": branch for n, branch in enumerate(input.branches)}
        specs = number_steps(
            {
                "agents": input.agents,
                **{f"{name}.agents": branch.agents for name, branch in branches.items()},
                "otherwise": input.otherwise,
                "then": input.then,
            }
        )
        before = [spec.step for spec in specs[: len(input.agents)]]
        checks = [
            ConditionCheck(field=f"{name}.when", condition=branch.when, steps=before)
            for name, branch in branches.items()
        ]
        async with self.running(input, specs, conditions=checks) as run:
            await run.in_order(run.of("agents"))
            taken = next((name for name, branch in branches.items() if run.holds(branch.when, name)), None)
            await run.in_order(run.of(f"{taken}.agents" if taken else "otherwise"))
            await run.in_order(run.of("then"))
            return await run.close()
