"""coverage.py's JSON report as typed values, and the arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from qefleet.contracts.coverage import (
    CoverageGap,
    CoverageReport,
    CoverageTotals,
    FileChange,
    FileCoverage,
    FunctionCoverage,
)
from qefleet.contracts.measured import Measured, Metric, Unmeasured


def parse_coverage(report: Any) -> CoverageReport | None:
    """Read coverage.py's JSON (format 3), as the run in the sandbox wrote it.

    Returns:
        None when it isn't such a report.
    """
    try:
        entries = cast("dict[str, dict[str, Any]]", report["files"])
        files = [_file(path, entry) for path, entry in sorted(entries.items())]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return CoverageReport(totals=sum((file.totals for file in files), CoverageTotals()), files=files)


def coverage_metrics(
    totals: CoverageTotals | None, *, tool: int, before: bool = False, reason: str = "coverage did not run"
) -> dict[str, Metric]:
    """The `coverage.*` metrics of one run.

    Args:
        totals: What was measured; None gives each metric as not measured.
        tool: Index of the run in the measurement's tools.
        before: Name them `coverage.before.*`: the figures without the run's patches.
        reason: Why there are none.
    """
    prefix = "coverage.before." if before else "coverage."
    counts = ("lines_covered", "lines_total", "branches_covered", "branches_total")
    if totals is None:
        names = ("line_percent", "branch_percent", *counts)
        return {prefix + name: Unmeasured(reason=reason) for name in names}
    metrics: dict[str, Metric] = {
        prefix + name: Measured(value=getattr(totals, name), unit=name.split("_", 1)[0], tool=tool)
        for name in counts
    }
    for name, percent in (("line_percent", totals.line_percent), ("branch_percent", totals.branch_percent)):
        metrics[prefix + name] = (
            Unmeasured(reason="there is nothing to cover")
            if percent is None
            else Measured(value=percent, unit="percent", tool=tool)
        )
    return metrics


def worst_gaps(report: CoverageReport, *, most: int = 20) -> list[CoverageGap]:
    """The functions with the most missing lines and branches, largest first."""
    gaps = [
        CoverageGap(
            file=file.path,
            function=function.name or "(module)",
            missing_lines=len(function.missing_lines),
            missing_branches=len(function.missing_branches),
            lines_total=function.lines_total,
        )
        for file in report.files
        for function in file.functions
    ]
    gaps.sort(key=lambda gap: (-gap.missing_lines - gap.missing_branches, gap.file, gap.function))
    return gaps[:most]


def file_changes(before: CoverageReport, after: CoverageReport, *, most: int = 50) -> list[FileChange]:
    """Files whose totals differ, the largest difference first; a file that is missing counts as zero."""
    old = {file.path: file.totals for file in before.files}
    new = {file.path: file.totals for file in after.files}
    changes = [
        FileChange(path=path, before=old.get(path, CoverageTotals()), after=new.get(path, CoverageTotals()))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
    changes.sort(key=lambda change: -abs(_covered(change.after) - _covered(change.before)))
    return changes[:most]


def _covered(totals: CoverageTotals) -> int:
    return totals.lines_covered + totals.branches_covered


def _file(path: str, entry: dict[str, Any]) -> FileCoverage:
    summary = cast("dict[str, int]", entry["summary"])
    functions = cast("dict[str, dict[str, Any]]", entry.get("functions", {}))
    return FileCoverage(
        path=path,
        totals=CoverageTotals(
            lines_covered=summary["covered_lines"],
            lines_total=summary["num_statements"],
            branches_covered=summary.get("covered_branches", 0),
            branches_total=summary.get("num_branches", 0),
        ),
        missing_lines=entry["missing_lines"],
        missing_branches=_pairs(entry.get("missing_branches", [])),
        functions=[
            FunctionCoverage(
                name=name,
                missing_lines=function["missing_lines"],
                missing_branches=_pairs(function.get("missing_branches", [])),
                lines_total=function["summary"]["num_statements"],
            )
            for name, function in functions.items()
            if function["missing_lines"] or function.get("missing_branches")
        ],
    )


def _pairs(branches: Iterable[Iterable[int]]) -> list[tuple[int, int]]:
    return [(source, target) for source, target in branches]
