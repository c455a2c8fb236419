"""`Release`: all that a release rests on, measured, mended where tests are missed, and decided."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.patterns import ReleaseInput, number_steps
from qefleet.contracts.runs import RunResult
from qefleet.contracts.steps import ConditionCheck
from workflows.pattern import Pattern


@workflow.defn(name="Release")
class Release(Pattern):
    """Measures side by side, hunts flaky tests, generates tests where they are missed, reviews, gates."""

    @workflow.run
    async def run(self, input: ReleaseInput) -> RunResult:  # noqa: A002 - the name that users see in the UI
        """Measure, hunt, generate, review, gate; a person is asked about a CONDITIONAL."""
        specs = number_steps(
            {
                "measure": input.measure,
                "hunt": input.hunt,
                "generate": input.generate,
                "review": input.review,
                "gate": input.gate,
            }
        )
        measuring = [spec.step for spec in specs[: len(input.measure)]]
        wanted = {"hunt": input.hunt_when, "generate": input.generate_when}
        checks = [
            ConditionCheck(field=f"{part}_when", condition=when, steps=measuring)
            for part, when in wanted.items()
            if getattr(input, part)
        ]
        async with self.running(input, specs, conditions=checks) as run:
            await run.side_by_side(run.of("measure"), input.max_concurrent)
            for part, when in wanted.items():
                if run.of(part) and run.holds(when, part, measuring):
                    await run.in_order(run.of(part))
            await run.in_order([*run.of("review"), *run.of("gate")])
            return await run.close()
