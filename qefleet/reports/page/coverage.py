"""Coverage before and after, in all and by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qefleet.contracts.coverage import CoverageDetails, CoverageTotals
from qefleet.reports.evidence import Evidence
from qefleet.reports.findings import Finding, Rule
from qefleet.reports.page.charts import Bar
from qefleet.reports.page.details import latest_details
from qefleet.reports.page.findings import FindingRow, finding_row
from qefleet.reports.page.shown import Kind, Shown, first
from qefleet.reports.text import NOTHING
from qefleet.tools.running.coverage import parse_coverage

_FILES = 200
_BARS = 15
_CHANGES = 50
"""As many changed files as `CoverageDetails` lists at most."""


@dataclass(frozen=True, kw_only=True)
class CoverageRow:
    """A file's lines, or a run's lines or branches."""

    name: str
    before: str
    after: str
    counts: str
    kind: Kind = "plain"


@dataclass(frozen=True, kw_only=True)
class CoverageView:
    """Before and after."""

    totals: Sequence[CoverageRow]
    files: Shown[CoverageRow]
    bars: Sequence[Bar]
    gaps: Shown[FindingRow]
    compared: bool


def coverage_view(evidence: Evidence, found: Sequence[Finding]) -> CoverageView | None:
    """None where nothing was measured."""
    details = latest_details(evidence.result.steps, "coverage-analyzer", CoverageDetails)
    report = parse_coverage(evidence.coverage_json)
    if details is None and report is None:
        return None
    totals = details.totals if details else (report.totals if report else CoverageTotals())
    before = details.before if details else None
    changed = {change.path: change.before for change in details.changes} if details else {}
    known = before is not None and len(changed) < _CHANGES
    after = {file.path: file.totals for file in report.files} if report else {}
    after |= {change.path: change.after for change in details.changes} if details else {}
    files = [(path, changed.get(path, now if known else None), now) for path, now in after.items()]
    files.sort(key=_interest)
    gaps = [finding for finding in found if finding.rule == Rule.UNCOVERED_CODE]
    return CoverageView(
        totals=[
            _coverage_row("Lines", before, totals),
            _coverage_row("Branches", before, totals, branches=True),
            *([_coverage_row("Changed lines", None, details.diff)] if details and details.diff else []),
        ],
        files=Shown([_coverage_row(*file) for file in files[:_FILES]], max(0, len(files) - _FILES)),
        bars=[_coverage_bar(*file) for file in files[:_BARS]],
        gaps=first((finding_row(gap, f"gap-{number}") for number, gap in enumerate(gaps, 1)), _FILES),
        compared=before is not None,
    )


def _interest(file: tuple[str, CoverageTotals | None, CoverageTotals]) -> tuple[float, int, str]:
    """Files that gained or lost first, then those that lack most."""
    path, before, after = file
    gained = abs((after.line_percent or 0) - (before.line_percent or 0)) if before else 0.0
    return -gained, after.lines_covered - after.lines_total, path


def _coverage_row(
    name: str, before: CoverageTotals | None, after: CoverageTotals, *, branches: bool = False
) -> CoverageRow:
    was = (before.branch_percent if branches else before.line_percent) if before else None
    now = after.branch_percent if branches else after.line_percent
    counts = (
        (after.branches_covered, after.branches_total)
        if branches
        else (after.lines_covered, after.lines_total)
    )
    kind: Kind = "plain"
    if was is not None and now is not None and was != now:
        kind = "good" if now > was else "bad"
    return CoverageRow(
        name=name, before=_percent(was), after=_percent(now), counts="{:,} of {:,}".format(*counts), kind=kind
    )


def _coverage_bar(name: str, before: CoverageTotals | None, after: CoverageTotals) -> Bar:
    now, was = after.line_percent or 0.0, before.line_percent if before else None
    moved = was is not None and was != now
    colour = ("good" if now > (was or 0) else "bad") if moved else "accent"
    return Bar(name=name, end=now, note=_percent(now), mark=was if moved else None, colour=colour)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} %"
