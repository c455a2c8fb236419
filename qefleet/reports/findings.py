"""What a person should look at in a run, each thing with its place in the source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import ValidationError

from qefleet.contracts.changes import LineRange
from qefleet.contracts.coverage import CoverageReport, FileCoverage, FunctionCoverage
from qefleet.contracts.execution import ExecutionDetails, FailingTest
from qefleet.contracts.gate import GateDecision
from qefleet.contracts.issues import SEVERITIES, Issue, Severity
from qefleet.reports.evidence import Evidence
from qefleet.tools.running.coverage import parse_coverage
from qefleet.tools.running.diff import diff_coverage
from qefleet.tools.running.junit import parse_junit
from qefleet.workspace.archive import safe_path

Level = Literal["error", "warning", "note"]

_LEVELS: dict[Severity, Level] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "info": "note",
}
_GAPS = 20
_MESSAGE_CHARS = 1000
_PLACE = re.compile(r"^(?:file /src/)?(?P<file>[^\s:,]+\.py)(?::|, line )(?P<line>\d+)(?::|$)", re.MULTILINE)


class Rule(StrEnum):
    """Kinds of findings; durable names, by which code scanning tells old findings from new ones."""

    FAILING_TEST = "qe/failing-test"
    FAILED_STEP = "qe/failed-step"
    GATE = "qe/gate"
    UNCOVERED_CHANGE = "qe/uncovered-change"
    UNCOVERED_CODE = "qe/uncovered-code"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to look at."""

    rule: str
    """A `Rule`, or `tool/rule` for what a tool reported."""
    severity: Severity
    title: str
    message: str
    identity: str
    """The same for the same finding in the next run, wherever its lines have moved."""
    file: str | None = None
    """Relative to the repository; None for what has no place."""
    lines: LineRange | None = None
    cited_as: str | None = None
    """How a model's judgement names it: an issue's id, a test's, a rule's name."""

    @property
    def level(self) -> Level:
        """As code scanning and annotations tell severities apart."""
        return _LEVELS[self.severity]


def findings(evidence: Evidence) -> list[Finding]:
    """All there is to look at, the most severe first."""
    found = [*_failed_steps(evidence), *_gate(evidence), *_tests(evidence), *_issues(evidence)]
    found += _coverage(evidence)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _failed_steps(evidence: Evidence) -> Iterator[Finding]:
    for step in evidence.result.steps:
        if step.status == "failed" and step.error:
            yield Finding(
                rule=Rule.FAILED_STEP,
                severity="high",
                title=f"{step.step} failed",
                message=f"{step.error.type}: {step.error.message}"[:_MESSAGE_CHARS],
                identity=step.step,
            )


def _gate(evidence: Evidence) -> Iterator[Finding]:
    gate = gate_of(evidence)
    for rule in gate.rules if gate else []:
        if not rule.passed:
            hard = rule.severity == "hard" or rule.actual is None
            yield Finding(
                rule=Rule.GATE,
                severity="high" if hard else "medium",
                title=f"quality gate: {rule.rule}",
                message=rule.reason[:_MESSAGE_CHARS],
                identity=rule.rule,
                cited_as=rule.rule,
            )


def gate_of(evidence: Evidence) -> GateDecision | None:
    """The latest gate's rules, where a gate was run."""
    for step in reversed(evidence.result.steps):
        if step.agent == "quality-gate" and step.measured.details:
            return GateDecision.model_validate(step.measured.details)
    return None


def _tests(evidence: Evidence) -> Iterator[Finding]:
    known = _failed_before(evidence)
    failing = {
        test.node_id: test
        for content in evidence.junit
        if (report := parse_junit(content))
        for test in report.failing
    }
    for node_id, test in sorted(failing.items()):
        file, line = _place(test)
        old = node_id in known
        yield Finding(
            rule=Rule.FAILING_TEST,
            severity="info" if old else "high",
            title="failing test" + (", also before the change" if old else ""),
            message=f"{node_id}: {_first_line(test.message)}",
            identity=node_id,
            file=evidence.folder + file if file else None,
            lines=(line, line) if file else None,
            cited_as=node_id,
        )


def _failed_before(evidence: Evidence) -> set[str]:
    """Tests of which the executor found that they fail in the base too."""
    known: set[str] = set()
    for step in evidence.result.steps:
        if step.agent == "test-executor" and step.measured.details:
            try:
                known |= {*ExecutionDetails.model_validate(step.measured.details).failed_before}
            except ValidationError:
                continue  # the sum of an expansion's items
    return known


def _issues(evidence: Evidence) -> Iterator[Finding]:
    """What the tools of any agent reported; what is there since before the change is a note."""
    for step in evidence.result.steps:
        for given in step.measured.details.get("issues", []):
            issue = Issue.model_validate(given)
            place = issue.path is not None and safe_path(issue.path)
            line = issue.line or 1
            yield Finding(
                rule=f"{issue.tool}/{issue.rule}",
                severity="info" if issue.known else issue.severity,
                title=f"{issue.tool} {issue.rule}" + (", also before the change" if issue.known else ""),
                message=issue.message[:_MESSAGE_CHARS],
                identity=f"{issue.tool}:{issue.rule}:{issue.path}:{issue.message}",
                file=f"{evidence.folder}{issue.path}" if place else None,
                lines=(line, issue.end_line or line) if place else None,
                cited_as=issue.id,
            )


def _place(test: FailingTest) -> tuple[str | None, int]:
    """The file of a test, and where in it the failure is, as far as the traceback tells."""
    file = test.node_id.partition("::")[0]
    if not file.endswith(".py"):
        file = file.replace(".", "/") + ".py"  # a module that couldn't be collected
    if not safe_path(file):
        return None, 1
    lines = [int(found["line"]) for found in _PLACE.finditer(test.message) if found["file"] == file]
    return file, max(1, lines[-1]) if lines else 1


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["it fails"])[0][:_MESSAGE_CHARS]


def _coverage(evidence: Evidence) -> Iterator[Finding]:
    report = parse_coverage(evidence.coverage_json)
    if report is None:
        return
    if evidence.changes is None:
        yield from _gaps(report, evidence.folder)
        return
    changed = diff_coverage(evidence.coverage_json, evidence.changes)
    functions = {file.path: file.functions for file in report.files}
    for path, ranges in (changed.uncovered if changed else {}).items():
        seen: dict[str, int] = {}
        for first, last in ranges if safe_path(path) else []:
            name = _function_at(functions.get(path, []), first)
            ordinal = seen[name] = seen.get(name, 0) + 1
            yield Finding(
                rule=Rule.UNCOVERED_CHANGE,
                severity="medium",
                title="change without a test",
                message=f"{name}: no test reaches what has changed here",
                identity=f"{path}:{name}:{ordinal}",
                file=evidence.folder + path,
                lines=(first, last),
            )


def _gaps(report: CoverageReport, folder: str) -> Iterator[Finding]:
    def missing(gap: tuple[FileCoverage, FunctionCoverage]) -> int:
        return len(gap[1].missing_lines) + len(gap[1].missing_branches)

    gaps = [(file, function) for file in report.files for function in file.functions if safe_path(file.path)]
    for file, function in sorted(gaps, key=missing, reverse=True)[:_GAPS]:
        lines = function.missing_lines or [abs(source) for source, _ in function.missing_branches]
        name = function.name or "(module)"
        yield Finding(
            rule=Rule.UNCOVERED_CODE,
            severity="info",
            title="uncovered code",
            message=f"{name}: no test reaches {len(function.missing_lines)} of its {function.lines_total} "
            f"lines and {len(function.missing_branches)} of its branches",
            identity=f"{file.path}:{name}",
            file=folder + file.path,
            lines=(max(1, min(lines)), max(1, *lines)),
        )


def _function_at(functions: list[FunctionCoverage], line: int) -> str:
    return next((f.name for f in functions if line in f.missing_lines and f.name), "(module)")
