"""Coverage of what has changed: statements and branches that begin in a changed line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from qefleet.contracts.changes import Changes, LineRange
from qefleet.contracts.coverage import CoverageTotals
from qefleet.contracts.measured import Measured, Metric, Unmeasured
from qefleet.tools.source_tree import read_source


@dataclass(frozen=True)
class DiffCoverage:
    """What was measured of the changed lines."""

    totals: CoverageTotals
    uncovered: dict[str, list[LineRange]]
    """Changed statements that no test reaches, neighbours in one range."""


def diff_coverage(report: Any, changes: Changes, project: Path | None = None) -> DiffCoverage | None:
    """Measure changed statements, and the branches that start in them.

    A statement over several lines counts as changed when any of its lines has changed: coverage.py knows it
    by its first line alone.

    Args:
        report: coverage.py's JSON report, as it is.
        changes: What has changed.
        project: The project's files; without it only the first lines of statements are compared.

    Returns:
        None when it is no such report.
    """
    totals, uncovered = CoverageTotals(), dict[str, list[LineRange]]()
    try:
        entries = cast("dict[str, dict[str, Any]]", report["files"])
        for file in sorted(entries.keys() & changes.root.keys()):
            entry = entries[file]
            lines = changes.lines(file)
            if project and (tree := read_source(project / file)):
                lines |= tree.statements_with(lines)
            covered, missing = (
                lines.intersection(entry[f"{kind}_lines"]) for kind in ("executed", "missing")
            )
            taken, untaken = (
                _from(lines, entry.get(f"{kind}_branches", [])) for kind in ("executed", "missing")
            )
            totals += CoverageTotals(
                lines_covered=len(covered),
                lines_total=len(covered) + len(missing),
                branches_covered=taken,
                branches_total=taken + untaken,
            )
            if missing:
                uncovered[file] = _ranges(sorted(missing), sorted(covered))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return DiffCoverage(totals, uncovered)


def diff_metrics(found: DiffCoverage | None, *, tool: int, reason: str) -> dict[str, Metric]:
    """The `diff.*` metrics of one run.

    Args:
        found: What was measured; None gives each metric as not measured.
        tool: Index of the run in the measurement's tools.
        reason: Why there are none.
    """
    counts = ("lines_covered", "lines_total", "branches_covered", "branches_total")
    if found is None:
        return {
            f"diff.{name}": Unmeasured(reason=reason) for name in (*counts, "line_percent", "branch_percent")
        }
    metrics: dict[str, Metric] = {
        f"diff.{name}": Measured(value=getattr(found.totals, name), unit=name.split("_", 1)[0], tool=tool)
        for name in counts
    }
    for name, things in (("line_percent", "statement"), ("branch_percent", "branch")):
        percent = getattr(found.totals, name)
        metrics[f"diff.{name}"] = (
            Unmeasured(reason=f"no {things} has changed")
            if percent is None
            else Measured(value=percent, unit="percent", tool=tool)
        )
    return metrics


def _from(lines: set[int], branches: Iterable[Iterable[int]]) -> int:
    return sum(source in lines for source, _ in branches)


def _ranges(missing: list[int], covered: list[int]) -> list[LineRange]:
    """Missing statements as ranges; a covered one between two of them parts them."""
    ranges = [(missing[0], missing[0])]
    for before, line in pairwise(missing):
        if any(before < other < line for other in covered):
            ranges.append((line, line))
        else:
            ranges[-1] = (ranges[-1][0], line)
    return ranges
