"""What each agent did, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qefleet.contracts.generation import GenerationDetails
from qefleet.contracts.measured import Measured, Metric, ToolRun
from qefleet.contracts.runs import AgentResult, StepStatus
from qefleet.reports.evidence import RunRecord
from qefleet.reports.page.charts import Bar, Colour
from qefleet.reports.page.details import latest_details
from qefleet.reports.page.shown import NOTES, Kind, Shown, first
from qefleet.reports.page.tree import Tree, tree
from qefleet.reports.text import figure, seconds

_BARS = 40
_METRICS = 100
_VERDICTS = 50
_TOOLS = 100
_ARGV_CHARS = 500
_KINDS: dict[StepStatus, Kind] = {"completed": "good", "failed": "bad", "cancelled": "warn"}
_COLOURS: dict[StepStatus, Colour] = {"completed": "accent", "failed": "bad"}
_SHOWN_ELSEWHERE = ("issues", "rules", "verdicts")


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A number and where it is from."""

    name: str
    value: str
    source: str
    measured: bool


@dataclass(frozen=True, kw_only=True)
class ToolRow:
    """One run of a tool."""

    name: str
    command: str
    ended: str


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """What became of a proposed test."""

    test: str
    segment: str
    verdict: str
    kept: bool


@dataclass(frozen=True, kw_only=True)
class StepView:
    """What one agent did."""

    anchor: str
    result: AgentResult
    kind: Kind
    took: str
    begun: str
    metrics: Shown[MetricRow]
    tools: Shown[ToolRow]
    notes: Shown[str]
    verdicts: Shown[VerdictRow]
    details: Tree | None


def step_view(
    step: AgentResult, anchor: str, *, record: RunRecord | None, anchors: Mapping[str, str]
) -> StepView:
    """What a step has measured and noted.

    Args:
        step: Its result.
        anchor: Its place on the page.
        record: When it was recorded.
        anchors: By what it may name: its place on the page.
    """
    span = _span(step, record)
    details = {name: value for name, value in step.measured.details.items() if name not in _SHOWN_ELSEWHERE}
    generation = latest_details([step], "test-generator", GenerationDetails)
    return StepView(
        anchor=anchor,
        result=step,
        kind=_KINDS.get(step.status, "plain"),
        took=seconds(step.duration_s),
        begun=f"{seconds(span[0])} after the run's begin" if span else "",
        metrics=first(
            (
                _metric(name, metric, step.measured.tools)
                for name, metric in sorted(step.measured.metrics.items())
            ),
            _METRICS,
        ),
        tools=first(map(_tool, step.measured.tools), _TOOLS),
        notes=first(step.notes, NOTES),
        verdicts=first(
            (
                VerdictRow(
                    test=verdict.test,
                    segment=verdict.segment,
                    kept=verdict.kept,
                    verdict=f"+{verdict.gained_lines} lines, +{verdict.gained_branches} branches"
                    if verdict.kept
                    else f"{verdict.filter}: {verdict.reason}",
                )
                for verdict in (generation.verdicts if generation else [])
            ),
            _VERDICTS,
        ),
        details=tree(details, anchors) if details else None,
    )


def step_bars(steps: Sequence[AgentResult], record: RunRecord | None) -> list[Bar]:
    """When each worked, in seconds after the run was opened."""
    spans = [(step, span) for step in steps if (span := _span(step, record))]
    spans.sort(key=lambda pair: (pair[1][0], pair[1][1]))
    return [
        Bar(
            name=step.step,
            start=start,
            end=end,
            note=seconds(end - start) + ("" if step.status == "completed" else f", {step.status}"),
            colour=_COLOURS.get(step.status, "muted"),
        )
        for step, (start, end) in spans[:_BARS]
    ]


def _span(step: AgentResult, record: RunRecord | None) -> tuple[float, float] | None:
    """Seconds after the run's begin when a step began and ended."""
    ended = record.recorded_at.get(step.step) if record else None
    if record is None or ended is None:
        return None
    end = max(0.0, (ended - record.opened_at).total_seconds())
    return max(0.0, end - step.duration_s), end


def _metric(name: str, metric: Metric, tools: Sequence[ToolRun]) -> MetricRow:
    if isinstance(metric, Measured):
        tool = tools[metric.tool] if 0 <= metric.tool < len(tools) else None
        source = f"{tool.tool} {tool.version}" if tool else ""
        return MetricRow(
            name=name, value=f"{figure(metric.value)} {metric.unit}", source=source, measured=True
        )
    return MetricRow(name=name, value="unmeasured", source=metric.reason, measured=False)


def _tool(run: ToolRun) -> ToolRow:
    ended = "stopped at its limit" if run.exit_code is None else f"exit {run.exit_code}"
    if run.artifact:
        ended += f"; {run.artifact.name}, sha256 {run.artifact.digest[:12]}"
    command = " ".join(run.argv)
    return ToolRow(
        name=f"{run.tool} {run.version}",
        command=command[:_ARGV_CHARS] + ("…" if len(command) > _ARGV_CHARS else ""),
        ended=f"{ended}; {seconds(run.duration_s)}",
    )
