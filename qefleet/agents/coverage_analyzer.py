"""coverage-analyzer: measures lines and branches, before and after the run's patches."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.measures import COVERAGE, DIFF, TESTS
from qefleet.agents.parts import confined, measured_first, uncovered_files
from qefleet.contracts.base import Model
from qefleet.contracts.coverage import CoverageDetails, CoverageReport, CoverageTotals
from qefleet.contracts.measured import Measured, Measurement, ToolRun
from qefleet.contracts.steps import Finding
from qefleet.tools.ground import read_json
from qefleet.tools.running.coverage import coverage_metrics, file_changes, parse_coverage, worst_gaps
from qefleet.tools.running.diff import DiffCoverage, diff_coverage, diff_metrics
from qefleet.tools.running.suite import run_suite, suite_metrics

_LISTED_PLACES = 50
_BEFORE = "coverage.before.lines_total"


class CoverageAnalyzerOptions(Model):
    """How to measure."""

    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 900.0


class GapJudgement(BaseModel):
    """Why one gap matters."""

    function: Citation
    why: str


class CoverageJudgement(BaseModel):
    """The model's part: which gaps matter first, and why."""

    summary: str
    first: list[GapJudgement]


async def _measure(ctx: StepContext) -> Finding:
    options: CoverageAnalyzerOptions = ctx.options
    async with ctx.workspace() as workspace:
        run = await run_suite(workspace, coverage=True, timeout_s=options.timeout_s)
        changed = (
            diff_coverage(read_json(run.artifact("coverage.json")), ctx.changes, workspace.project)
            if ctx.changes and run.coverage
            else None
        )
    tools = list(run.tools)
    report = confined(run.coverage, ctx.item) if run.coverage else None
    reason = "; ".join(run.details.notes) or "coverage did not run"
    metrics = suite_metrics(run) | coverage_metrics(
        report.totals if report else None, tool=len(tools) - 1, reason=reason
    )
    if ctx.changes:
        metrics |= diff_metrics(changed, tool=len(tools) - 1, reason=reason)
    artifacts = list(run.artifacts)
    before = report
    if ctx.patches:
        tool, before = await _measured_before(ctx)
        tools += [tool] if tool else []
        if before is None:
            async with ctx.unpatched() as workspace:
                base = await run_suite(workspace, coverage=True, timeout_s=options.timeout_s)
            tools += base.tools
            artifacts += [
                (ref.model_copy(update={"name": f"before-{ref.name}"}), it) for ref, it in base.artifacts
            ]
            before = confined(base.coverage, ctx.item) if base.coverage else None
    metrics |= coverage_metrics(
        before.totals if before else None,
        tool=len(tools) - 1,
        before=True,
        reason="coverage of the project as it came could not be measured",
    )
    gaps = worst_gaps(report) if report else []
    details = CoverageDetails(
        totals=report.totals if report else CoverageTotals(),
        before=before.totals if before else None,
        gaps=gaps,
        changes=file_changes(before, report) if before and report else [],
        files=len(report.files) if report else 0,
        diff=changed.totals if changed else None,
        uncovered_changes=_places(changed)[:_LISTED_PLACES] if changed else [],
        command=run.details.command,
    )
    evidence = [gap.model_dump(mode="json") for gap in gaps[:10]]
    return Finding(
        measurement=Measurement(metrics=metrics, tools=tools, details=details.model_dump(mode="json")),
        headline=_headline(report, before) + (_of_changes(changed) if changed else ""),
        artifacts=await keep_all(ctx.artifacts, artifacts),
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
        items=await ctx.keep_items(uncovered_files(report)) if report and not ctx.item else None,
    )


async def _measured_before(ctx: StepContext) -> tuple[ToolRun | None, CoverageReport | None]:
    """What an earlier step measured on the project as it came, with the tool run that says so."""
    measurement = measured_first(ctx, _BEFORE)
    metric = measurement.metrics[_BEFORE] if measurement else None
    if measurement is None or not isinstance(metric, Measured):
        return None, None
    tool = measurement.tools[metric.tool]
    if tool.artifact is None:
        return None, None
    report = parse_coverage(json.loads(await ctx.artifacts.get(tool.artifact.digest)))
    return tool, confined(report, ctx.item) if report else None


def _headline(after: CoverageReport | None, before: CoverageReport | None) -> str:
    if after is None:
        return "coverage was not measured"
    lines, branches = after.totals.line_percent, after.totals.branch_percent
    text = "no lines to cover" if lines is None else f"{lines:.2f} % lines"
    if branches is not None:
        text += f", {branches:.2f} % branches"
    if before and before is not after:
        text += (
            f" (+{after.totals.lines_covered - before.totals.lines_covered} lines,"
            f" +{after.totals.branches_covered - before.totals.branches_covered} branches)"
        )
    return text


def _of_changes(changed: DiffCoverage) -> str:
    totals = changed.totals
    return f"; of what changed {totals.lines_covered} of {totals.lines_total} lines"


def _places(changed: DiffCoverage) -> list[str]:
    return [
        f"{file}:{first}" + (f"-{last}" if last > first else "")
        for file, ranges in changed.uncovered.items()
        for first, last in ranges
    ]


COVERAGE_ANALYZER = Agent(
    id="coverage-analyzer",
    title="coverage-analyzer",
    purpose="Measures line and branch coverage before and after, by file, and finds the largest gaps.",
    tier="moderate",
    tools=("coverage", "pytest"),
    measures=(*TESTS, *COVERAGE, *DIFF),
    options=CoverageAnalyzerOptions,
    measure=_measure,
    judgement=Judgement(prompt="coverage-analyzer", response=CoverageJudgement),
    memory_key="coverage/gaps",
    memory_reads=("notes/*",),
)
