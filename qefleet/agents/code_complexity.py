"""code-complexity: cyclomatic and cognitive complexity of functions, against thresholds and the last run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import is_about
from qefleet.contracts.base import Model
from qefleet.contracts.complexity import (
    ComplexityDetails,
    FileMaintainability,
    FunctionComplexity,
    Growth,
    Kind,
)
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.items import Item
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.runs import AgentResult, Limit
from qefleet.contracts.steps import Finding
from qefleet.contracts.trend import Trend, trend
from qefleet.memory.artifacts import ArtifactMissing
from qefleet.tools.own_sources import own_sources, read_lines
from qefleet.tools.source_tree import parse_source
from qefleet.tools.static.complexity import (
    COMPLEXIPY,
    RADON,
    TOOLS,
    Complexity,
    Scores,
    by_turns,
    confined,
    grown,
    issue_of,
    joined,
    measure_complexity,
    over,
    read_scores,
)

_KINDS: tuple[Kind, ...] = ("cyclomatic", "cognitive")
_LISTED = 200
_LISTED_GROWN = 50
_LISTED_FILES = 20
_JUDGED = 5
_CODE_CHARS = 4000
_NO_SOURCES = "no package or module of the project's own was found"


class CodeComplexityOptions(Model):
    """Above what a function counts as too complex."""

    cyclomatic: Annotated[int, Field(ge=1, le=1000)] = 10
    """McCabe's own threshold, also of ruff and flake8."""
    cognitive: Annotated[int, Field(ge=1, le=1000)] = 15
    """SonarSource's, also of complexipy."""
    worst: Annotated[int, Field(ge=1, le=100)] = 20
    """How many functions are listed."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0
    """Of each tool."""

    def threshold(self, kind: Kind) -> int:
        """Of one kind of complexity."""
        return self.cyclomatic if kind == "cyclomatic" else self.cognitive


class Proposal(BaseModel):
    """How one function can be made simpler."""

    function: Citation
    problem: str
    refactoring: str


class ComplexityJudgement(BaseModel):
    """The model's part: refactoring proposals for the worst."""

    proposals: list[Proposal]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What the tools said, and what follows from it by arithmetic."""

    found: Complexity
    base: Complexity | None
    functions: list[FunctionComplexity]
    changed: list[FunctionComplexity]
    """Those with a changed line; all of them outside of diff mode."""
    issues: list[Issue]
    growth: list[Growth]
    """In diff mode: changed functions that are less complex in the base."""

    @property
    def tools(self) -> list[ToolRun]:
        return [run for one in (self.found, self.base) if one for kind in _KINDS if (run := one.of(kind).run)]

    @property
    def files(self) -> list[FileMaintainability]:
        return self.found.cyclomatic.value.maintainability if self.found.cyclomatic.value else []

    def metric(self, kind: Kind, number: float, unit: str = "functions") -> Metric:
        """A number that one tool's run gave."""
        report = self.found.of(kind)
        index = self.tools.index(report.run) if report.run else 0
        return report.metric(lambda _: number, unit=unit, tool=index)


async def _measure(ctx: StepContext) -> Finding:
    options: CodeComplexityOptions = ctx.options
    async with ctx.workspace() as workspace:
        own = own_sources(workspace.project)
        if not own.paths:
            return _nothing()
        found = await measure_complexity(workspace, own, timeout_s=options.timeout_s)
        base = await _of_base(ctx) if ctx.changes is not None else None
        seen = _seen(ctx, found, base)
        evidence = _evidence(workspace.project, _worst(options, seen))
    metrics = _metrics(options, seen) | (_diff_metrics(seen) if ctx.changes is not None else {})
    last = await ctx.last() if ctx.item is None else None
    details = ComplexityDetails(
        issues=seen.issues[:_LISTED],
        thresholds={kind: options.threshold(kind) for kind in _KINDS},
        worst=by_turns([over(seen.functions, kind, 0) for kind in _KINDS], options.worst),
        grown=await _grown_since(ctx, last, seen.functions) if last else [],
        grown_since_base=seen.growth[:_LISTED_GROWN],
        least_maintainable=sorted(seen.files, key=lambda file: (file.maintainability, file.path))[
            :_LISTED_FILES
        ],
        unreadable=_unreadable(found),
        trend=_trend(last, metrics, seen.tools) if last else None,
    )
    return Finding(
        measurement=Measurement(metrics=metrics, tools=seen.tools, details=details.model_dump(mode="json")),
        headline=_headline(metrics, options),
        artifacts=await keep_all(ctx.artifacts, [*_artifacts(found), *_artifacts(base, prefix="base-")]),
        notes=[f"not analysed: {reason}" for reason in details.unreadable],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
        items=None if ctx.item else await ctx.keep_items(_items(seen.issues)),
    )


async def _of_base(ctx: StepContext) -> Complexity | None:
    """What the tools say of the base; None where it has no sources, so that all is new."""
    if ctx.base_workspace is None:
        return None
    async with ctx.base_workspace() as workspace:
        own = own_sources(workspace.project)
        return (
            await measure_complexity(workspace, own, timeout_s=ctx.options.timeout_s) if own.paths else None
        )


def _seen(ctx: StepContext, found: Complexity, base: Complexity | None) -> _Seen:
    """Functions over a threshold, and the changed ones that have grown.

    In diff mode a function is known where it has not changed, or was over the threshold and has not grown.
    """
    options: CodeComplexityOptions = ctx.options
    found = confined(found, lambda path: is_about(ctx.item, path))
    functions = joined(scores for kind in _KINDS if (scores := found.of(kind).value))
    changed = [
        function
        for function in functions
        if ctx.changes is None or ctx.changes.touch(function.path, function.line, function.end_line)
    ]
    issues: list[Issue] = []
    growth: list[Growth] = []
    for kind in _KINDS:
        threshold, scores = options.threshold(kind), base.of(kind).value if base else None
        before = scores.functions if scores else {}
        more = grown(changed, before, kind)
        was_over = {function.id for function in over(before.values(), kind, threshold)}
        new = {function.id for function in changed} - (was_over - {each.function for each in more})
        issues += [
            issue_of(function, kind, threshold, known=function.id not in new)
            for function in over(functions, kind, threshold)
        ]
        growth += more
    return _Seen(
        found=found, base=base, functions=functions, changed=changed, issues=numbered(issues), growth=growth
    )


def _worst(options: CodeComplexityOptions, seen: _Seen) -> list[FunctionComplexity]:
    """What a model is to look at: changed functions over a threshold, and those that have grown."""
    more = {each.function for each in seen.growth}
    ranked = [over(seen.changed, kind, options.threshold(kind)) for kind in _KINDS]
    ranked.append([function for function in seen.changed if function.id in more])
    return by_turns(ranked, _JUDGED)


def _evidence(project: Path, worst: Sequence[FunctionComplexity]) -> list[dict[str, Any]]:
    sources = {path: "\n".join(read_lines(project, path)) for path in {each.path for each in worst}}
    docstrings = {path: _docstring_lines(text) for path, text in sources.items()}
    return [
        {
            "function": function.id,
            "cyclomatic": function.cyclomatic,
            "cognitive": function.cognitive,
            "code": "\n".join(
                line
                for number, line in enumerate(sources[function.path].split("\n"), start=1)
                if function.line <= number <= function.end_line and number not in docstrings[function.path]
            )[:_CODE_CHARS],
        }
        for function in worst
    ]


def _docstring_lines(text: str) -> set[int]:
    """Docstrings are often longer than all the rest of a function, and say nothing of its form."""
    tree = parse_source(text)
    return {
        line
        for node in (ast.walk(tree.module) if tree else ())
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(node.body) > 1
        if ast.get_docstring(node, clean=False) is not None and node.body[0].lineno > node.lineno
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }


def _metrics(options: CodeComplexityOptions, seen: _Seen) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for kind in _KINDS:
        values = [value for function in seen.functions if (value := function.of(kind)) is not None]
        number = len(over(seen.functions, kind, options.threshold(kind)))
        metrics[f"complexity.{kind}_over"] = seen.metric(kind, number)
        metrics[f"complexity.{kind}_max"] = (
            seen.metric(kind, max(values), "points") if values else _none(seen, kind, "there is no function")
        )
        if kind == "cyclomatic":
            metrics["complexity.functions"] = seen.metric(kind, len(values))
    files = [file.maintainability for file in seen.files]
    for name, value in (
        ("maintainability_min", min(files, default=0.0)),
        ("maintainability_mean", round(sum(files) / (len(files) or 1), 2)),
    ):
        metrics[f"complexity.{name}"] = (
            seen.metric("cyclomatic", value, "points")
            if files
            else _none(seen, "cyclomatic", "there is no file")
        )
    return metrics


def _none(seen: _Seen, kind: Kind, why: str) -> Unmeasured:
    return Unmeasured(reason=seen.found.of(kind).reason or why)


def _diff_metrics(seen: _Seen) -> dict[str, Metric]:
    changed = sum(function.cyclomatic is not None for function in seen.changed)
    metrics = {"complexity.changed_functions": seen.metric("cyclomatic", changed)}
    for kind in _KINDS:
        new = sum(issue.tool == TOOLS[kind].name and not issue.known for issue in seen.issues)
        more = sum(each.kind == kind for each in seen.growth)
        for name, number in ((f"{kind}_new_over", new), (f"{kind}_grown", more)):
            metrics[f"complexity.{name}"] = (
                Unmeasured(reason=f"in the base: {seen.base.of(kind).reason}")
                if seen.base and seen.base.of(kind).value is None
                else seen.metric(kind, number)
            )
    return metrics


async def _grown_since(
    ctx: StepContext, last: AgentResult, functions: Sequence[FunctionComplexity]
) -> list[Growth]:
    """Functions that were less complex in the last result, whose reports are kept."""
    found: list[Growth] = []
    for kind in _KINDS:
        run = next((run for run in last.measured.tools if run.tool == TOOLS[kind].name), None)
        scores = await _kept(ctx, run) if run and run.artifact else None
        if scores:
            found += grown(functions, scores.functions, kind)
    return found[:_LISTED_GROWN]


async def _kept(ctx: StepContext, run: ToolRun) -> Scores | None:
    assert run.artifact
    try:
        return read_scores(await ctx.artifacts.get(run.artifact.digest))
    except (ArtifactMissing, ValueError, KeyError, TypeError, AttributeError):
        return None  # it was deleted, or the tool had failed


def _trend(last: AgentResult, metrics: Mapping[str, Metric], tools: Sequence[ToolRun]) -> Trend:
    of_diff = {measure.name for measure in _MEASURES if measure.of_diff}
    whole = {name: metric for name, metric in metrics.items() if name not in of_diff}
    return trend(last.measured, whole, {run.tool: run.version for run in tools})


def _unreadable(found: Complexity) -> list[str]:
    reasons = {
        path: reason
        for kind in _KINDS
        if (scores := found.of(kind).value)
        for path, reason in scores.unreadable.items()
    }
    return [f"{path}: {reason}" for path, reason in sorted(reasons.items())][:_LISTED_FILES]


def _artifacts(found: Complexity | None, *, prefix: str = "") -> list[tuple[ArtifactRef, bytes]]:
    return [
        (ref.model_copy(update={"name": f"{prefix}{ref.name}"}), content)
        for kind in _KINDS
        if found
        for ref, content in found.of(kind).artifacts
    ]


def _items(issues: Sequence[Issue]) -> list[Item]:
    """Files with functions over a threshold that are new; the one with most first."""
    counts: dict[str, set[int]] = {}
    for issue in issues:
        if issue.path and issue.line and not issue.known:
            counts.setdefault(issue.path, set()).add(issue.line)
    return [
        Item(
            id=path,
            title=f"{path}: {len(lines)} complex " + ("function" if len(lines) == 1 else "functions"),
            paths=[path],
        )
        for path, lines in sorted(counts.items(), key=lambda found: (-len(found[1]), found[0]))
    ]


def _headline(metrics: Mapping[str, Metric], options: CodeComplexityOptions) -> str:
    parts: list[str] = []
    for kind in _KINDS:
        over_it, most = metrics[f"complexity.{kind}_over"], metrics[f"complexity.{kind}_max"]
        if isinstance(over_it, Measured) and isinstance(most, Measured):
            parts.append(
                f"{over_it.value:.0f} over {options.threshold(kind)} by {kind} complexity, "
                f"at most {most.value:.0f}"
            )
        elif isinstance(over_it, Unmeasured):
            parts.append(f"{kind} complexity not measured")
    functions = metrics["complexity.functions"]
    count = f"{functions.value:.0f} functions: " if isinstance(functions, Measured) else ""
    return count + ("; ".join(parts) or "none that could be complex")


def _nothing() -> Finding:
    metrics: dict[str, Metric] = {measure.name: Unmeasured(reason=_NO_SOURCES) for measure in _MEASURES}
    return Finding(measurement=Measurement(metrics=metrics), headline=f"nothing to analyse: {_NO_SOURCES}")


_LOOK = Limit(max=0, severity="soft")
_MEASURES = (
    Measure("complexity.functions", "functions", additive=True),
    *(Measure(f"complexity.{kind}_max", "points") for kind in _KINDS),
    *(Measure(f"complexity.{kind}_over", "functions", additive=True) for kind in _KINDS),
    Measure("complexity.maintainability_min", "points"),
    Measure("complexity.maintainability_mean", "points"),
    Measure("complexity.changed_functions", "functions", additive=True, of_diff=True),
    *(
        Measure(f"complexity.{kind}_new_over", "functions", additive=True, of_diff=True, limit=_LOOK)
        for kind in _KINDS
    ),
    *(Measure(f"complexity.{kind}_grown", "functions", additive=True, of_diff=True) for kind in _KINDS),
)

CODE_COMPLEXITY = Agent(
    id="code-complexity",
    title="code-complexity",
    purpose="Measures how complex each function is, against thresholds and the last run; lists the worst.",
    tier="moderate",
    tools=(RADON, COMPLEXIPY),
    measures=_MEASURES,
    options=CodeComplexityOptions,
    measure=_measure,
    judgement=Judgement(prompt="code-complexity", response=ComplexityJudgement),
    memory_key="complexity/history",
    memory_reads=("notes/*",),
)
