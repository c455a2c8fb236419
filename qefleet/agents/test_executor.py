"""test-executor: runs the project's suite, with the patches of the agents before it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, StepContext
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.contracts.base import Model
from qefleet.contracts.execution import ExecutionDetails
from qefleet.contracts.measured import Measurement
from qefleet.contracts.steps import Finding
from qefleet.tools.suite import run_suite, suite_metrics


class TestExecutorOptions(Model):
    """How to run the suite."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    only: list[str] = []
    """Node ids or files; everything that the project collects without them."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0


class FailureCause(BaseModel):
    """What the model takes to be behind a failing test."""

    test: str
    cause: str
    proposal: str


class FailureTriage(BaseModel):
    """The model's part: why the failing tests fail."""

    causes: list[FailureCause]


async def _measure(ctx: StepContext) -> Finding:
    options: TestExecutorOptions = ctx.options
    async with ctx.workspace() as workspace:
        run = await run_suite(workspace, coverage=False, only=options.only, timeout_s=options.timeout_s)
    failing = [{"test": test.node_id, "message": test.message} for test in run.details.failing[:5]]
    return Finding(
        measurement=Measurement(
            metrics=suite_metrics(run), tools=list(run.tools), details=run.details.model_dump(mode="json")
        ),
        headline=suite_headline(run.details),
        artifacts=await keep_all(ctx.artifacts, run.artifacts),
        evidence=await keep_evidence(ctx.artifacts, failing) if failing else None,
    )


def suite_headline(details: ExecutionDetails) -> str:
    """One line for people: how many passed, and which failed first."""
    counts = details.counts
    text = f"{counts.passed} of {counts.total} tests passed"
    if counts.skipped:
        text += f", {counts.skipped} skipped"
    if details.failing:
        others = counts.failed + counts.errors - 1
        text += f"; failing: {details.failing[0].node_id}" + (f" and {others} more" if others else "")
    return text if counts.total else f"no test ran: {details.outcome.value}"


TEST_EXECUTOR = Agent(
    id="test-executor",
    title="test-executor",
    purpose="Runs the project's whole test suite, with the tests that were generated, and names what fails.",
    tier="simple",
    tools=("pytest",),
    options=TestExecutorOptions,
    measure=_measure,
    judgement=Judgement(prompt="test-executor", response=FailureTriage),
    memory_key="test-executor/last_execution",
)
