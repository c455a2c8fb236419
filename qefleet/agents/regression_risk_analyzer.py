"""regression-risk-analyzer: which tests a change could break, and what of the change no test reaches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.contracts.base import Model
from qefleet.contracts.changes import Changes
from qefleet.contracts.execution import SuiteOutcome
from qefleet.contracts.items import Item
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.regression import ChangedFile, RegressionDetails, SelectedTest
from qefleet.contracts.steps import Finding
from qefleet.memory.artifacts import reference
from qefleet.tools.changes.changed_code import differing_files
from qefleet.tools.changes.import_graph import GRIMP, ImportGraph, read_imports
from qefleet.tools.changes.selection import Facts, Reached, Selection, read_reached, select_tests
from qefleet.tools.ground import Ground, read_json
from qefleet.tools.project import read_layout
from qefleet.tools.running.collect import collect_tests
from qefleet.tools.running.diff import DiffCoverage, diff_coverage
from qefleet.tools.running.junit import read_cases
from qefleet.tools.running.suite import SuiteRun, files_of, run_suite
from qefleet.workspace.churn import COMMITS

_LISTED = 200
_NAMED = 50
_JUDGED_FILES = 12
_JUDGED_TESTS = 5
_NO_BASE = (
    "what has changed is not known: give the run a base (`qe run … --base REF`), which needs a git repository"
)
_WHY_LEFT_OUT = (
    "in the base they ran no code that has changed, they are not new, "
    "and their files import no changed module"
)


class RegressionRiskAnalyzerOptions(Model):
    """How to run the suite."""

    timeout_s: Annotated[float, Field(gt=0, le=3000)] = 900.0
    """For the whole suite of the base, with contexts, and again for the selected tests."""


class FileRisk(BaseModel):
    """What one changed file may break."""

    path: Citation
    risk: str
    tests: list[Citation]
    """Those that would tell first; none where no test would."""


class RiskJudgement(BaseModel):
    """The model's part: where a regression is likely, and what would tell."""

    summary: str
    files: list[FileRisk]


@dataclass
class _Gathered:
    """Tool runs and reports so far."""

    tools: list[ToolRun] = field(default_factory=list[ToolRun])
    artifacts: list[tuple[ArtifactRef, bytes]] = field(default_factory=list[tuple[ArtifactRef, bytes]])

    def suite(self, run: SuiteRun, prefix: str) -> None:
        self.tools += run.tools
        self.artifacts += [
            (ref.model_copy(update={"name": f"{prefix}-{ref.name}"}), content)
            for ref, content in run.artifacts
            if ref.name in {"junit.xml", "coverage.json"} or ref == run.tools[0].log
        ]

    def file(self, run: ToolRun, content: object, name: str) -> int:
        """Keep what a step of ours found; the run's index."""
        written = json.dumps(content, indent=1).encode()
        ref = reference(written, name=name, media_type="application/json")
        self.tools.append(run.model_copy(update={"artifact": ref}))
        self.artifacts.append((ref, written))
        return len(self.tools) - 1


@dataclass(frozen=True)
class _Analysis:
    """What was selected, and what running it gave."""

    facts: Facts
    selection: Selection
    ranked: list[SelectedTest]
    run: SuiteRun | None
    covered: DiffCoverage | None

    @property
    def selected(self) -> set[str]:
        return {test.node_id for test in self.ranked}

    @property
    def left_out(self) -> list[str]:
        return [test for test in self.facts.now if test not in self.selected]

    @property
    def failing(self) -> list[str]:
        return sorted(self.run.failing_ids & self.selected) if self.run else []

    @property
    def uncovered(self) -> int:
        """Changed statements that no selected test reaches."""
        return self.covered.totals.lines_total - self.covered.totals.lines_covered if self.covered else 0


class _CannotTellError(Exception):
    """Something without which no selection can be trusted was not measured."""


async def _measure(ctx: StepContext) -> Finding:
    if ctx.changes is None:
        return Finding(
            measurement=Measurement(metrics=_unmeasured(_NO_BASE)), headline=f"nothing analysed: {_NO_BASE}"
        )
    gathered = _Gathered()
    async with AsyncExitStack() as stack:
        head = await stack.enter_async_context(ctx.workspace())
        base = await stack.enter_async_context(ctx.base_workspace()) if ctx.base_workspace else None
        changed = _changed(gathered, ctx.changes)
        try:
            facts = await _facts(ctx, gathered, head, base)
        except _CannotTellError as error:
            reason = str(error)
            metrics = changed | {n: m for n, m in _unmeasured(reason).items() if n not in changed}
            return Finding(
                measurement=Measurement(metrics=metrics, tools=gathered.tools),
                headline=f"no test is selected: {reason}",
                artifacts=await keep_all(ctx.artifacts, gathered.artifacts),
            )
        selection = select_tests(facts)
        ranked = selection.ranked()
        run, covered = await _try(ctx, gathered, head, facts, ranked)
    return await _finding(ctx, gathered, _Analysis(facts, selection, ranked, run, covered), changed)


def _changed(gathered: _Gathered, changes: Changes) -> dict[str, Metric]:
    """What git has told when the snapshot was taken."""
    lines = sum(last - first + 1 for ranges in changes.root.values() for first, last in ranges)
    run = ToolRun(
        tool="git diff",
        version="at the snapshot",
        argv=["git", "diff", "--no-index"],
        exit_code=0,
        duration_s=0,
    )
    tool = gathered.file(run, changes.model_dump(mode="json"), "changes.json")
    return {"regression.changed_lines": Measured(value=lines, unit="lines", tool=tool)}


async def _facts(ctx: StepContext, gathered: _Gathered, head: Ground, base: Ground | None) -> Facts:
    """All that a selection needs.

    Raises:
        _CannotTellError: A part of it can't be had.
    """
    collected = await collect_tests(head)
    gathered.tools += [collected.run] if collected.run else []
    gathered.artifacts += collected.artifacts
    if collected.value is None:
        raise _CannotTellError(collected.reason)
    before, reached = await _base(ctx, gathered, base)
    graphs = [await _imports(gathered, ground) for ground in (head, base) if ground]
    return Facts(
        base=base.project if base else None,
        head=head.project,
        layout=read_layout(head.project),
        differing=differing_files(base.project, head.project) if base else _all_added(head),
        before=before,
        now=collected.value,
        reached=reached,
        graphs=graphs,
    )


def _all_added(head: Ground) -> dict[str, str]:
    files = sorted(path for path in head.project.rglob("*") if path.is_file())
    return {path.relative_to(head.project).as_posix(): "added" for path in files}


async def _base(ctx: StepContext, gathered: _Gathered, base: Ground | None) -> tuple[list[str], Reached]:
    """Tests of the base, and which lines each of them ran."""
    options: RegressionRiskAnalyzerOptions = ctx.options
    if base is None:
        return [], Reached({})
    run = await run_suite(base, coverage=True, contexts=True, lean=True, timeout_s=options.timeout_s)
    gathered.suite(run, "base")
    if run.details.outcome is SuiteOutcome.NO_TESTS:
        return [], Reached({})
    reached = read_reached(read_json(run.artifact("coverage.json")))
    if run.details.outcome not in {SuiteOutcome.PASSED, SuiteOutcome.FAILED} or reached is None:
        raise _CannotTellError("in the base: " + ("; ".join(run.details.notes) or run.details.outcome.value))
    return [case.node_id for case in read_cases(run.artifact("junit.xml")) or []], reached


async def _imports(gathered: _Gathered, ground: Ground) -> ImportGraph:
    report = await read_imports(ground)
    gathered.tools += [report.run] if report.run else []
    gathered.artifacts += report.artifacts
    if report.value is None:
        raise _CannotTellError(report.reason)
    return report.value


async def _try(
    ctx: StepContext, gathered: _Gathered, head: Ground, facts: Facts, ranked: list[SelectedTest]
) -> tuple[SuiteRun | None, DiffCoverage | None]:
    """Run the selected tests, in the project's own order, and see what of the change they reach.

    Where none is selected, the first test is run: it reaches what is run on import, and else nothing.
    """
    options: RegressionRiskAnalyzerOptions = ctx.options
    selected = {test.node_id for test in ranked}
    order = [test for test in facts.now if test in selected] or [*facts.now[:1]]
    if not order or ctx.changes is None:
        return None, None
    run = await run_suite(
        head,
        coverage=True,
        only=files_of(order, head.project),
        order=order,
        lean=True,
        timeout_s=options.timeout_s,
    )
    gathered.suite(run, "selected")
    report = read_json(run.artifact("coverage.json")) if run.coverage else None
    return run, diff_coverage(report, ctx.changes, head.project) if report else None


async def _finding(
    ctx: StepContext, gathered: _Gathered, done: _Analysis, changed: dict[str, Metric]
) -> Finding:
    last_run = len(gathered.tools) - 1
    left_out, tests = done.left_out, len(done.facts.now)
    files = _files(ctx, done)
    run = ToolRun(
        tool="qefleet selection (coverage contexts, grimp)",
        version=version("qefleet"),
        argv=["select_tests", f"{len(files)} changed files"],
        exit_code=0,
        duration_s=0,
    )
    tool = gathered.file(run, [test.model_dump(mode="json") for test in done.ranked], "selection.json")
    numbers = {
        "changed_files": (len(files), "files"),
        "changed_sources": (sum(f.kind == "source" for f in files), "files"),
        "unattributed_files": (sum(map(_unattributed, files)), "files"),
        "tests": (tests, "tests"),
        "selected_tests": (len(done.ranked), "tests"),
        "left_out_tests": (len(left_out), "tests"),
    }
    metrics: dict[str, Metric] = changed | {
        f"regression.{name}": Measured(value=value, unit=unit, tool=tool)
        for name, (value, unit) in numbers.items()
    }
    metrics["regression.selected_percent"] = (
        Measured(value=100 * len(done.ranked) / tests, unit="percent", tool=tool)
        if tests
        else Unmeasured(reason="the project has no tests")
    )
    metrics |= _coverage_metrics(files, done, tool=last_run)
    metrics["regression.churn_commits"] = _churn(ctx, gathered, files)
    details = RegressionDetails(
        files=files[:_LISTED],
        selected=done.ranked[:_LISTED],
        left_out=left_out[:_LISTED],
        why_left_out=_WHY_LEFT_OUT if left_out else "",
        tests=tests,
        failing=done.failing[:_LISTED],
        unattributed=[file.path for file in files if _unattributed(file)][:_LISTED],
    )
    evidence = _evidence(files, done)
    lists = {
        "selected-tests.txt": [test.node_id for test in done.ranked],
        "left-out-tests.txt": left_out,
    }
    return Finding(
        measurement=Measurement(
            metrics=metrics, tools=gathered.tools, details=details.model_dump(mode="json")
        ),
        headline=_headline(files, done),
        artifacts=[
            *await keep_all(ctx.artifacts, gathered.artifacts),
            *[
                await ctx.artifacts.put(
                    "".join(f"{test}\n" for test in listed).encode(), name=name, media_type="text/plain"
                )
                for name, listed in lists.items()
            ],
        ],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
        items=None if ctx.item else await ctx.keep_items(_items(done.ranked)),
    )


def _churn(ctx: StepContext, gathered: _Gathered, files: list[ChangedFile]) -> Metric:
    """How often the latest commits touched the changed files: the sum over them."""
    if not ctx.churn:
        return Unmeasured(reason="the history of the target's git repository could not be read")
    known = {file.path: file.commits for file in files}
    run = ToolRun(
        tool="git log",
        version="at the snapshot",
        argv=["git", "log", f"--max-count={COMMITS}", "--no-merges", "--name-only"],
        exit_code=0,
        duration_s=0,
    )
    tool = gathered.file(run, known, "churn.json")
    return Measured(value=sum(commits or 0 for commits in known.values()), unit="commits", tool=tool)


def _unattributed(file: ChangedFile) -> bool:
    return bool(file.note) and file.kind in {"data", "other"}


def _files(ctx: StepContext, done: _Analysis) -> list[ChangedFile]:
    """The riskiest first: uncovered changes, then how far a file reaches."""
    facts, selection = done.facts, done.selection
    uncovered = done.covered.uncovered if done.covered else {}
    found: list[ChangedFile] = []
    for path, change in facts.differing.items():
        code = selection.code.get(path)
        importers = {file for graph in facts.graphs for file in graph.all_importers(path)}
        found.append(
            ChangedFile(
                path=path,
                change=change,
                kind=selection.kinds[path],
                lines=len(ctx.changes.lines(path)) if ctx.changes else 0,
                functions=sorted(code.functions | code.added)[:_NAMED] if code else [],
                beyond_functions=bool(code and code.beyond),
                tests=len(selection.by_file[path]),
                importers=len(importers),
                uncovered=uncovered.get(path, [])[:_NAMED],
                commits=ctx.churn.get(path, 0) if ctx.churn else None,
                note=selection.notes.get(path, ""),
            )
        )
    return sorted(found, key=_risk)


def _risk(file: ChangedFile) -> tuple[bool, bool, int, int, int, str]:
    lines = sum(last - first + 1 for first, last in file.uncovered)
    commits = file.commits or 0
    return file.kind != "source", not file.uncovered, -lines, -file.importers, -commits, file.path


def _coverage_metrics(files: list[ChangedFile], done: _Analysis, *, tool: int) -> dict[str, Metric]:
    run, covered = done.run, done.covered
    names = ("regression.uncovered_changes", "regression.risk_files", "regression.failing_tests")
    if run is None:
        return {name: Unmeasured(reason="the project has no tests") for name in names}
    if run.details.outcome in {SuiteOutcome.UNREPORTED, SuiteOutcome.TIMED_OUT} or covered is None:
        reason = "of the selected tests: " + ("; ".join(run.details.notes) or "coverage was not measured")
        return {name: Unmeasured(reason=reason) for name in names}
    values = (
        (done.uncovered, "lines"),
        (sum(bool(file.uncovered) for file in files), "files"),
        (len(done.failing), "tests"),
    )
    return {
        name: Measured(value=value, unit=unit, tool=tool)
        for name, (value, unit) in zip(names, values, strict=True)
    }


def _headline(files: list[ChangedFile], done: _Analysis) -> str:
    text = f"{len(done.ranked)} of {len(done.facts.now)} tests for {len(files)} changed files"
    if failing := done.failing:
        text += f"; {len(failing)} of them fail: {failing[0]}" + (" and others" if len(failing) > 1 else "")
    if done.covered and done.uncovered:
        text += f"; no test reaches {done.uncovered} of {done.covered.totals.lines_total} changed lines"
    return text


def _evidence(files: list[ChangedFile], done: _Analysis) -> list[Mapping[str, object]]:
    """The riskiest files with the tests that would tell first; nothing where no code has changed."""
    selection, failing = done.selection, done.failing
    order = [test.node_id for test in done.ranked]
    shown = [f for f in files if f.path in selection.code and not selection.code[f.path].nothing]
    return [
        {
            **file.model_dump(mode="json", exclude={"note", "tests", "commits", "uncovered"}),
            "lines that no test reaches": [list(lines) for lines in file.uncovered[:_NAMED]],
            "tests": [test for test in order if test in selection.by_file[file.path]][:_JUDGED_TESTS],
            "failing": [test for test in failing if test in selection.by_file[file.path]][:_JUDGED_TESTS],
        }
        for file in shown[:_JUDGED_FILES]
    ]


def _items(ranked: list[SelectedTest]) -> list[Item]:
    """One for each file with selected tests, in the order of the most telling."""
    counts: dict[str, int] = {}
    for test in ranked:
        path = test.node_id.partition("::")[0]
        counts[path] = counts.get(path, 0) + 1
    return [
        Item(id=path, title=f"{path}: {count} selected tests", paths=[path], data={"tests": count})
        for path, count in counts.items()
    ]


_MEASURES = (
    *(Measure(f"regression.{name}", "files") for name in ("changed_files", "changed_sources", "risk_files")),
    Measure("regression.unattributed_files", "files"),
    *(Measure(f"regression.{name}", "lines") for name in ("changed_lines", "uncovered_changes")),
    *(
        Measure(f"regression.{name}", "tests")
        for name in ("tests", "selected_tests", "left_out_tests", "failing_tests")
    ),
    Measure("regression.selected_percent", "percent"),
    Measure("regression.churn_commits", "commits"),
)


def _unmeasured(reason: str) -> dict[str, Metric]:
    return {measure.name: Unmeasured(reason=reason) for measure in _MEASURES}


REGRESSION_RISK_ANALYZER = Agent(
    id="regression-risk-analyzer",
    title="regression-risk-analyzer",
    purpose="Selects the tests that a change could break, and names what of it no test reaches.",
    tier="moderate",
    tools=("coverage", "pytest", GRIMP),
    measures=_MEASURES,
    options=RegressionRiskAnalyzerOptions,
    measure=_measure,
    judgement=Judgement(prompt="regression-risk-analyzer", response=RiskJudgement),
    memory_key="regression/risk-heat-map",
    memory_reads=("notes/*",),
)
