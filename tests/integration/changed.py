"""A workflow that was changed without regard for the runs that are open, for tests of who notices."""

from __future__ import annotations

from temporalio import workflow

from qefleet.contracts.patterns import PipelineInput


@workflow.defn(name="Pipeline")
class Changed:
    """A Pipeline that waits for long before it does anything."""

    @workflow.run
    async def run(self, input: PipelineInput) -> str:  # noqa: A002 - as the original
        """Wait."""
        await workflow.sleep(3600)
        return str(input.target)
