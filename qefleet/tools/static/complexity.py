"""Complexity of a project's own functions: cyclomatic by radon, cognitive by complexipy, each by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qefleet.contracts.complexity import FileMaintainability, FunctionComplexity, Growth, Kind
from qefleet.contracts.issues import Issue, issue_id
from qefleet.tools.ground import Ground
from qefleet.tools.own_sources import OwnSources
from qefleet.tools.program import Tool, ToolReport, run_tool

RADON = Tool(name="radon", inside="qe_static")
COMPLEXIPY = Tool(name="complexipy", inside="qe_static")
TOOLS: dict[Kind, Tool] = {"cyclomatic": RADON, "cognitive": COMPLEXIPY}


@dataclass(frozen=True)
class Scores:
    """What one of the tools found: its own number for each function."""

    functions: dict[str, FunctionComplexity]
    """By id."""
    maintainability: list[FileMaintainability]
    """Of each file; complexipy has none."""
    unreadable: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """What both tools said of one version of a project."""

    cyclomatic: ToolReport[Scores]
    cognitive: ToolReport[Scores]

    def of(self, kind: Kind) -> ToolReport[Scores]:
        """One tool's report."""
        return self.cyclomatic if kind == "cyclomatic" else self.cognitive


async def measure_complexity(ground: Ground, own: OwnSources, *, timeout_s: float) -> Complexity:
    """Run both tools, one after the other.

    Args:
        ground: The project's workspace.
        own: Its own sources, of which there are some.
        timeout_s: Of each tool.
    """
    without = [f"--without={folder}" for folder in own.without]
    reports = [
        await run_tool(ground, tool, [tool.name, *without, *own.paths], read=read_scores, timeout_s=timeout_s)
        for tool in (RADON, COMPLEXIPY)
    ]
    return Complexity(cyclomatic=reports[0], cognitive=reports[1])


def read_scores(content: bytes) -> Scores:
    """Read what `qe_static` printed for either tool.

    Raises:
        ValueError: It is no such report; also KeyError and TypeError.
    """
    report: dict[str, Any] = json.loads(content)
    functions = {
        function.id: function
        for path, module in sorted(report["modules"].items())
        for function in _functions(path, module["functions"])
    }
    return Scores(
        functions=functions,
        maintainability=[
            FileMaintainability(path=path, maintainability=module["maintainability"])
            for path, module in sorted(report["modules"].items())
            if "maintainability" in module
        ],
        unreadable=dict(report["unreadable"]),
    )


def _functions(path: str, found: Iterable[Mapping[str, Any]]) -> Iterator[FunctionComplexity]:
    seen: dict[str, int] = {}
    for function in sorted(found, key=lambda function: function["line"]):
        name = f"{path}:{function['name']}"
        ordinal = seen[name] = seen.get(name, 0) + 1
        yield FunctionComplexity(
            id=name if ordinal == 1 else f"{name}#{ordinal}",
            path=path,
            line=function["line"],
            end_line=function["end_line"],
            cyclomatic=function.get("cyclomatic"),
            cognitive=function.get("cognitive"),
        )


def confined(found: Complexity, is_about: Callable[[str], bool]) -> Complexity:
    """What was found in some of the files; what could not be analysed stands as it is."""

    def part(report: ToolReport[Scores]) -> ToolReport[Scores]:
        if report.value is None:
            return report
        functions = {name: each for name, each in report.value.functions.items() if is_about(each.path)}
        files = [file for file in report.value.maintainability if is_about(file.path)]
        return replace(report, value=replace(report.value, functions=functions, maintainability=files))

    return Complexity(cyclomatic=part(found.cyclomatic), cognitive=part(found.cognitive))


def joined(scores: Iterable[Scores]) -> list[FunctionComplexity]:
    """Functions with the numbers of both tools side by side, in the order of their places."""
    found: dict[str, FunctionComplexity] = {}
    for each in scores:
        for name, function in each.functions.items():
            known = found.get(name)
            found[name] = known.model_copy(update=_merged(known, function)) if known else function
    return sorted(found.values(), key=lambda function: (function.path, function.line, function.id))


def _merged(one: FunctionComplexity, other: FunctionComplexity) -> dict[str, int | None]:
    """One tool begins a function at its decorators, the other at its `def`."""
    return {
        "line": min(one.line, other.line),
        "end_line": max(one.end_line, other.end_line),
        "cyclomatic": one.cyclomatic if other.cyclomatic is None else other.cyclomatic,
        "cognitive": one.cognitive if other.cognitive is None else other.cognitive,
    }


def over(functions: Iterable[FunctionComplexity], kind: Kind, threshold: int) -> list[FunctionComplexity]:
    """Functions above a threshold, the most complex first."""
    found = [function for function in functions if (function.of(kind) or 0) > threshold]
    return sorted(found, key=lambda function: (-(function.of(kind) or 0), function.id))


def by_turns(ranked: Sequence[Sequence[FunctionComplexity]], most: int) -> list[FunctionComplexity]:
    """The first of each ranking, then the second of each, and so on: two kinds have no common scale."""
    found: dict[str, FunctionComplexity] = {}
    for place in range(max(map(len, ranked), default=0)):
        for ranking in ranked:
            if place < len(ranking):
                found.setdefault(ranking[place].id, ranking[place])
    return list(found.values())[:most]


def grown(
    functions: Iterable[FunctionComplexity], before: Mapping[str, FunctionComplexity], kind: Kind
) -> list[Growth]:
    """Functions that were there before, and less complex; those that grew most first."""
    found = [
        Growth(function=function.id, kind=kind, before=then, now=now)
        for function in functions
        if (old := before.get(function.id)) is not None
        and (now := function.of(kind)) is not None
        and (then := old.of(kind)) is not None
        and now > then
    ]
    return sorted(found, key=lambda growth: (growth.before - growth.now, growth.function))


def issue_of(function: FunctionComplexity, kind: Kind, threshold: int, *, known: bool) -> Issue:
    """A function over a threshold, as an issue; beyond twice the threshold it weighs more."""
    value = function.of(kind) or 0
    rule = f"{kind}-complexity"
    name = function.id.removeprefix(f"{function.path}:")
    return Issue(
        id=issue_id(rule, function.path, function.line),
        tool=TOOLS[kind].name,
        rule=rule,
        severity="medium" if value > 2 * threshold else "low",
        message=f"{name} has a {kind} complexity of {value}, more than {threshold}",
        path=function.path,
        line=function.line,
        end_line=function.end_line,
        known=known,
    )
