"""Parts of the work: what an expansion can run over, and how an agent keeps to one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from qefleet.agents.agent import StepContext
from qefleet.contracts.coverage import CoverageReport, CoverageTotals
from qefleet.contracts.items import Item
from qefleet.contracts.measured import Measurement
from qefleet.workspace.patches import added_files


def is_about(item: Item | None, path: str) -> bool:
    """Whether a file belongs to an item: one of its paths is the file or a folder above it.

    Everything belongs to an item without paths, and where there is no item.
    """
    if item is None or not item.paths:
        return True
    place = PurePosixPath(path)
    return any(place.is_relative_to(PurePosixPath(own)) for own in item.paths)


def confined(report: CoverageReport, item: Item | None) -> CoverageReport:
    """The part of a report that is about an item."""
    if item is None or not item.paths:
        return report
    files = [file for file in report.files if is_about(item, file.path)]
    return CoverageReport(totals=sum((file.totals for file in files), CoverageTotals()), files=files)


def uncovered_files(report: CoverageReport) -> list[Item]:
    """One item a source file with something uncovered, the one with most first."""
    missing = {
        file.path: (len(file.missing_lines), len(file.missing_branches))
        for file in report.files
        if file.missing_lines or file.missing_branches
    }
    return [
        Item(
            id=path,
            title=f"{path}: {_count(lines, 'line')}, {_count(branches, 'branch', 'branches')} missing",
            paths=[path],
            data={"missing_lines": lines, "missing_branches": branches},
        )
        for path, (lines, branches) in sorted(missing.items(), key=lambda found: (-sum(found[1]), found[0]))
    ]


def file_items(paths: Iterable[str]) -> list[Item]:
    """One item a file."""
    return [Item(id=path, paths=[path]) for path in paths]


async def added_for_item(ctx: StepContext) -> Sequence[str] | None:
    """Files that the steps before this one have added for the same item; None where there were none."""
    before = ctx.of_item
    if not before:
        return None
    patches = [await ctx.artifacts.get(result.patch) for result in before if result.patch]
    return [path for patch in patches for path in added_files(patch)]


def measured_first(ctx: StepContext, metric: str) -> Measurement | None:
    """The first completed step that measured this metric: what was there before the run changed anything."""
    found = (r.measured for r in ctx.completed if r.measured.value(metric) is not None)
    return next(found, None)


def _count(number: int, one: str, more: str | None = None) -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"
