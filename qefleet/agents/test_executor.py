"""test-executor: runs the project's suite, with the patches of the agents before it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.measures import FAILED_BEFORE, TESTS
from qefleet.agents.parts import added_for_item, file_items
from qefleet.contracts.base import Model
from qefleet.contracts.execution import ExecutionDetails, SuiteOutcome
from qefleet.contracts.measured import Measured, Measurement, Metric, Unmeasured
from qefleet.contracts.steps import Finding
from qefleet.tools.project import read_layout
from qefleet.tools.running.suite import SuiteRun, files_of, run_suite, suite_metrics
from qefleet.workspace.workspace import Workspace


class TestExecutorOptions(Model):
    """How to run the suite."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    only: list[str] = []
    """Node ids or files; everything that the project collects without them."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0


class FailureCause(BaseModel):
    """What the model takes to be behind a failing test."""

    test: Citation
    cause: str
    proposal: str


class FailureTriage(BaseModel):
    """The model's part: why the failing tests fail."""

    causes: list[FailureCause]


async def _measure(ctx: StepContext) -> Finding:
    options: TestExecutorOptions = ctx.options
    async with ctx.workspace() as workspace:
        only = options.only or await _of_item(ctx, workspace)
        if only is None:
            return _nothing()
        run = await run_suite(workspace, coverage=False, only=only, timeout_s=options.timeout_s)
    metrics, tools, artifacts = suite_metrics(run), list(run.tools), list(run.artifacts)
    details, headline = run.details, suite_headline(run.details)
    if ctx.changes is not None:
        before, old = await _failed_before(ctx, run.failing_ids, options.timeout_s)
        metrics["tests.failed_before"] = before
        if old:
            tools += old.tools
            artifacts += [
                (ref.model_copy(update={"name": f"base-{ref.name}"}), it) for ref, it in old.artifacts
            ]
            known = [test.node_id for test in details.failing if test.node_id in old.failing_ids]
            details = details.model_copy(update={"failed_before": known})
        if isinstance(before, Measured) and before.value:
            headline += f"; {before.value:.0f} failed before the change too"
    failing = [{"test": test.node_id, "message": test.message} for test in run.details.failing[:5]]
    return Finding(
        measurement=Measurement(metrics=metrics, tools=tools, details=details.model_dump(mode="json")),
        headline=headline,
        artifacts=await keep_all(ctx.artifacts, artifacts),
        evidence=await keep_evidence(ctx.artifacts, failing) if failing else None,
        items=None if ctx.item else await ctx.keep_items(file_items(run.test_files)),
    )


async def _failed_before(
    ctx: StepContext, failing: frozenset[str], timeout_s: float
) -> tuple[Metric, SuiteRun | None]:
    """How many of the failing tests failed in the base too, and the run that says so where one was needed."""
    if not failing or ctx.base_workspace is None:
        return Measured(value=0, unit="tests", tool=0), None
    async with ctx.base_workspace() as base:
        files = files_of(failing, base.project)
        if not files:
            return Measured(value=0, unit="tests", tool=0), None
        run = await run_suite(base, coverage=False, only=files, timeout_s=timeout_s)
    if run.details.outcome in {SuiteOutcome.UNREPORTED, SuiteOutcome.TIMED_OUT}:
        reason = "in the base: " + ("; ".join(run.details.notes) or run.details.outcome.value)
        return Unmeasured(reason=reason), run
    return Measured(value=len(failing & run.failing_ids), unit="tests", tool=1), run


async def _of_item(ctx: StepContext, workspace: Workspace) -> list[str] | None:
    """What to run for the step's item; the empty list is the whole suite, None is nothing at all.

    The item's own test files. Else the test files that steps before this one have added for the same item,
    which may be none: what was not generated can't be executed, and the whole suite says nothing about it.
    Without test files and without such steps the item tells nothing about what to run: the whole suite.
    """
    if ctx.item is None:
        return []
    layout = read_layout(workspace.project)
    if own := [path for path in ctx.item.paths if layout.is_test_file(path)]:
        return own
    added = await added_for_item(ctx)
    if added is None:
        return []
    return [path for path in added if layout.is_test_file(path)] or None


def _nothing() -> Finding:
    reason = "nothing was generated for this part, so nothing was run"
    metrics: dict[str, Metric] = {measure.name: Unmeasured(reason=reason) for measure in TESTS}
    return Finding(measurement=Measurement(metrics=metrics), headline=reason)


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
    measures=(*TESTS, FAILED_BEFORE),
    options=TestExecutorOptions,
    measure=_measure,
    judgement=Judgement(prompt="test-executor", response=FailureTriage),
    memory_key="test-executor/last_execution",
    memory_reads=("notes/*",),
)
