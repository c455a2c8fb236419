"""quality-analyzer: lint, types, dead code and docstrings, whole and on the diff, against the last time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import is_about
from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.quality import FileDocstrings, QualityDetails
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.contracts.trend import Trend, trend
from qefleet.memory.artifacts import reference
from qefleet.tools.known import marked_known
from qefleet.tools.own_sources import own_sources, read_lines
from qefleet.tools.program import ToolReport
from qefleet.tools.static.quality import INTERROGATE, MYPY, RUFF, VULTURE, Quality, analyze

_LISTED = 200
_LISTED_FILES = 20
_JUDGED = 20
_JUDGED_OF_A_RULE = 2
_CODE_CHARS = 300
_NO_SOURCES = "no package or module of the project's own was found"


class QualityAnalyzerOptions(Model):
    """What to look for."""

    min_confidence: Annotated[int, Field(ge=60, le=100)] = 80
    """Percent by vulture's reckoning; at 60 it also reports functions and classes that only users call."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0
    """Of each tool."""


class IssueJudgement(BaseModel):
    """Why one issue matters."""

    issue: Citation
    why: str
    mend: str


class QualityJudgement(BaseModel):
    """The model's part: what matters first, and why."""

    summary: str
    first: list[IssueJudgement]


@dataclass(frozen=True)
class _Count:
    """What one tool's issues are counted as."""

    tool: str
    name: str
    unit: str
    words: str

    @property
    def metric(self) -> str:
        return f"quality.{self.name}"

    @property
    def new(self) -> str:
        return f"quality.new_{self.name}"


_COUNTS = (
    _Count(RUFF.name, "lint_issues", "issues", "lint issues"),
    _Count(MYPY.name, "type_errors", "errors", "type errors"),
    _Count(VULTURE.name, "dead_code", "places", "dead code"),
)


async def _measure(ctx: StepContext) -> Finding:
    options: QualityAnalyzerOptions = ctx.options
    async with ctx.workspace() as workspace:
        own = own_sources(workspace.project)
        if not own.paths:
            return _nothing()
        found = await analyze(
            workspace, own, min_confidence=options.min_confidence, timeout_s=options.timeout_s
        )
        issues = numbered(_issues(ctx, found))
        base = await _of_base(ctx) if ctx.changes is not None else None
        if ctx.changes is not None:
            issues = marked_known(issues, numbered(_issues(ctx, base)) if base else [], ctx.changes)
        evidence = _evidence(issues, workspace.project)
    reports: list[ToolReport[Any]] = [found.lint, found.types, found.dead, found.docstrings]
    old: list[ToolReport[Any]] = [base.lint, base.types, base.dead] if base else []
    kept = [*_artifacts(reports), *_artifacts(old, prefix="base-")]
    tools = [report.run for report in [*reports, *old] if report.run]
    files = _files(ctx, found)
    metrics = _metrics(issues, found, files, tools)
    if ctx.changes is not None:
        ref, content = _all_issues(issues)
        kept.append((ref, content))
        tools.append(_comparison(ref, len(issues)))
        metrics |= _new_metrics(issues, reports[:3], old, tools)
    changed = await _trend(ctx, metrics, tools)
    details = QualityDetails(
        issues=sorted(issues, key=lambda issue: issue.known)[:_LISTED],
        rules=dict(sorted(Counter(f"{issue.tool}/{issue.rule}" for issue in issues).items())),
        checked_by=found.checked_by,
        undocumented=sorted(
            (file for file in files if file.missing), key=lambda file: (-file.missing, file.path)
        )[:_LISTED_FILES],
        unreadable=_unreadable(found)[:_LISTED_FILES],
        trend=changed,
    )
    return Finding(
        measurement=Measurement(metrics=metrics, tools=tools, details=details.model_dump(mode="json")),
        headline=_headline(metrics, changed),
        artifacts=await keep_all(ctx.artifacts, kept),
        notes=[f"not analysed: {reason}" for reason in details.unreadable],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
    )


async def _of_base(ctx: StepContext) -> Quality | None:
    """What the tools say of the base; None where it has no sources, so that all is new."""
    if ctx.base_workspace is None:
        return None
    options: QualityAnalyzerOptions = ctx.options
    async with ctx.base_workspace() as workspace:
        own = own_sources(workspace.project)
        if not own.paths:
            return None
        return await analyze(
            workspace,
            own,
            min_confidence=options.min_confidence,
            timeout_s=options.timeout_s,
            docstrings=False,
        )


def _issues(ctx: StepContext, found: Quality) -> list[Issue]:
    dead = found.dead.value.issues if found.dead.value else []
    every = [*(found.lint.value or []), *(found.types.value or []), *dead]
    return [issue for issue in every if is_about(ctx.item, issue.path or "")]


def _files(ctx: StepContext, found: Quality) -> list[FileDocstrings]:
    files = found.docstrings.value.files if found.docstrings.value else []
    return [file for file in files if is_about(ctx.item, file.path)]


def _unreadable(found: Quality) -> list[str]:
    reasons = {
        **(found.dead.value.unreadable if found.dead.value else {}),
        **(found.docstrings.value.unreadable if found.docstrings.value else {}),
    }
    return [f"{path}: {reason}" for path, reason in sorted(reasons.items())]


def _metrics(
    issues: Sequence[Issue], found: Quality, files: Sequence[FileDocstrings], tools: Sequence[ToolRun]
) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for count, report in zip(_COUNTS, (found.lint, found.types, found.dead), strict=True):
        number = sum(issue.tool == count.tool for issue in issues)
        metrics[count.metric] = _counted(report, number, count.unit, tools)
    report = found.docstrings
    documented, definitions = sum(file.documented for file in files), sum(file.definitions for file in files)
    metrics["quality.documented"] = _counted(report, documented, "definitions", tools)
    metrics["quality.definitions"] = _counted(report, definitions, "definitions", tools)
    metrics["quality.docstring_percent"] = (
        Unmeasured(reason="there is nothing to document")
        if report.value is not None and not definitions
        else _counted(report, 100 * documented / (definitions or 1), "percent", tools)
    )
    return metrics


def _counted(report: ToolReport[Any], number: float, unit: str, tools: Sequence[ToolRun]) -> Metric:
    index = tools.index(report.run) if report.run else 0
    return report.metric(lambda _: number, unit=unit, tool=index)


def _new_metrics(
    issues: Sequence[Issue],
    reports: Sequence[ToolReport[Any]],
    old: Sequence[ToolReport[Any]],
    tools: Sequence[ToolRun],
) -> dict[str, Metric]:
    """Issues that the base doesn't have, from the list that both sides made; it is the last of `tools`."""
    metrics: dict[str, Metric] = {}
    reasons: list[str] = []
    for index, count in enumerate(_COUNTS):
        why = [reports[index].reason] if reports[index].value is None else []
        why += [f"in the base: {report.reason}" for report in old[index : index + 1] if report.value is None]
        number = sum(issue.tool == count.tool and not issue.known for issue in issues)
        metrics[count.new] = (
            Unmeasured(reason="; ".join(why))
            if why
            else Measured(value=number, unit=count.unit, tool=len(tools) - 1)
        )
        reasons += why
    metrics["quality.new_issues"] = (
        Unmeasured(reason="; ".join(reasons))
        if reasons
        else Measured(value=sum(not issue.known for issue in issues), unit="issues", tool=len(tools) - 1)
    )
    return metrics


def _all_issues(issues: Sequence[Issue]) -> tuple[ArtifactRef, bytes]:
    content = json.dumps([issue.model_dump(mode="json") for issue in issues], indent=1).encode()
    return reference(content, name="issues.json", media_type="application/json"), content


def _comparison(issues: ArtifactRef, count: int) -> ToolRun:
    return ToolRun(
        tool="qefleet",
        version=version("qefleet"),
        argv=["marked_known", f"{count} issues"],
        exit_code=0,
        duration_s=0.0,
        artifact=issues,
    )


def _artifacts(reports: Iterable[ToolReport[Any]], *, prefix: str = "") -> list[tuple[ArtifactRef, bytes]]:
    return [
        (ref.model_copy(update={"name": f"{prefix}{ref.name}"}), content)
        for report in reports
        for ref, content in report.artifacts
    ]


async def _trend(ctx: StepContext, metrics: dict[str, Metric], tools: Iterable[ToolRun]) -> Trend | None:
    """Against the last result; figures of a part are held against nothing."""
    last = await ctx.last() if ctx.item is None else None
    if last is None:
        return None
    whole = {name: metric for name, metric in metrics.items() if not name.startswith("quality.new_")}
    return trend(last.measured, whole, {run.tool: run.version for run in tools})


def _evidence(issues: Iterable[Issue], project: Path) -> list[dict[str, Any]]:
    """The new issues that weigh most, few of each rule, with the lines that they are about."""
    taken: Counter[tuple[str, str]] = Counter()
    chosen: list[Issue] = []
    for issue in issues:
        taken[issue.tool, issue.rule] += not issue.known
        if not issue.known and taken[issue.tool, issue.rule] <= _JUDGED_OF_A_RULE:
            chosen.append(issue)
    return [
        {
            "issue": issue.id,
            "tool": issue.tool,
            "message": issue.message,
            "code": _code(project, issue),
        }
        for issue in chosen[:_JUDGED]
    ]


def _code(project: Path, issue: Issue) -> str:
    if issue.path is None or issue.line is None:
        return ""
    lines = read_lines(project, issue.path)[issue.line - 1 : issue.end_line or issue.line]
    return "\n".join(lines)[:_CODE_CHARS]


def _headline(metrics: dict[str, Metric], changed: Trend | None) -> str:
    parts = [
        f"{count.words} " + (f"{metric.value:.0f}" if isinstance(metric, Measured) else "not measured")
        for count in _COUNTS
        for metric in [metrics[count.metric]]
    ]
    percent = metrics["quality.docstring_percent"]
    if isinstance(percent, Measured):
        parts.append(f"documented {percent.value:.1f} %")
    new = metrics.get("quality.new_issues")
    if isinstance(new, Measured):
        parts.append(f"new {new.value:.0f}")
    if changed and not changed.changes:
        parts.append("as the last time")
    return ", ".join(parts)


def _nothing() -> Finding:
    metrics: dict[str, Metric] = {measure.name: Unmeasured(reason=_NO_SOURCES) for measure in _MEASURES}
    return Finding(measurement=Measurement(metrics=metrics), headline=f"nothing to analyse: {_NO_SOURCES}")


_NEW = tuple(Measure(count.new, count.unit, additive=True, of_diff=True) for count in _COUNTS)
_MEASURES = (
    *(Measure(count.metric, count.unit, additive=True) for count in _COUNTS),
    Measure("quality.docstring_percent", "percent"),
    Measure("quality.documented", "definitions", additive=True),
    Measure("quality.definitions", "definitions", additive=True),
    # the only limit: mypy often can't check (a plug-in that isn't here, an old Python), and would close gates
    replace(_NEW[0], limit=Limit(max=0, severity="soft")),
    *_NEW[1:],
    Measure("quality.new_issues", "issues", additive=True, of_diff=True),
)

QUALITY_ANALYZER = Agent(
    id="quality-analyzer",
    title="quality-analyzer",
    purpose="Lints, checks types, and looks for dead code and missing docstrings; tells new issues from old.",
    tier="moderate",
    tools=(RUFF, MYPY, VULTURE, INTERROGATE),
    measures=_MEASURES,
    options=QualityAnalyzerOptions,
    measure=_measure,
    judgement=Judgement(prompt="quality-analyzer", response=QualityJudgement),
    memory_key="quality/history",
    memory_reads=("notes/*",),
)
