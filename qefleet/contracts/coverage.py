"""Coverage as measured: totals, files, gaps, and the difference between two runs."""

from __future__ import annotations

from qefleet.contracts.base import Model


class CoverageTotals(Model):
    """Statements and branches, covered and in all."""

    lines_covered: int = 0
    lines_total: int = 0
    branches_covered: int = 0
    branches_total: int = 0

    @property
    def line_percent(self) -> float | None:
        """Share of the statements that ran, 0 to 100; None where there are none."""
        return 100.0 * self.lines_covered / self.lines_total if self.lines_total else None

    @property
    def branch_percent(self) -> float | None:
        """Share of the branches that were taken, 0 to 100; None where there are none."""
        return 100.0 * self.branches_covered / self.branches_total if self.branches_total else None

    def __add__(self, other: CoverageTotals) -> CoverageTotals:
        return CoverageTotals(
            lines_covered=self.lines_covered + other.lines_covered,
            lines_total=self.lines_total + other.lines_total,
            branches_covered=self.branches_covered + other.branches_covered,
            branches_total=self.branches_total + other.branches_total,
        )


class FunctionCoverage(Model):
    """One function, method or class body of a file, where something is missing."""

    name: str
    """Qualified within its module, such as `Stats.describe`."""
    missing_lines: list[int]
    missing_branches: list[tuple[int, int]]
    lines_total: int


class FileCoverage(Model):
    """One source file."""

    path: str
    """Relative to the project."""
    totals: CoverageTotals
    missing_lines: list[int]
    missing_branches: list[tuple[int, int]]
    """From line, to line; a negative target is the function's exit."""
    functions: list[FunctionCoverage] = []
    """Only those with something missing."""


class CoverageReport(Model):
    """What coverage.py measured in one run."""

    totals: CoverageTotals
    files: list[FileCoverage]


class CoverageGap(Model):
    """A function worth looking at, for people and for prompts."""

    file: str
    function: str
    missing_lines: int
    missing_branches: int
    lines_total: int


class FileChange(Model):
    """A file whose coverage two runs measured differently."""

    path: str
    before: CoverageTotals
    after: CoverageTotals


class CoverageDetails(Model):
    """The `details` of `coverage-analyzer`."""

    totals: CoverageTotals
    before: CoverageTotals | None = None
    """The same without the run's patches."""
    gaps: list[CoverageGap] = []
    """The largest, at most 20."""
    changes: list[FileChange] = []
    """Files that gained or lost, the largest difference first, at most 50."""
    files: int = 0
    diff: CoverageTotals | None = None
    """In diff mode: changed statements and branches alone."""
    uncovered_changes: list[str] = []
    """In diff mode: the first 50 changed places that no test reaches, such as `pkg/a.py:10-12`."""
    command: str = ""
