"""What several agents can measure, as they declare it; the tools that give it name each metric once more."""

from __future__ import annotations

from dataclasses import replace

from qefleet.agents.agent import Measure

TESTS = tuple(
    Measure(f"tests.{name}", "tests") for name in ("total", "passed", "failed", "errors", "skipped")
)
"""Of one run of a suite, whole or in part: items may share tests, so nothing can be summed."""

FAILED_BEFORE = Measure("tests.failed_before", "tests")
"""In diff mode: of the failing tests, those that failed in the base too."""

_COVERED = (
    Measure("coverage.line_percent", "percent"),
    Measure("coverage.branch_percent", "percent"),
    Measure("coverage.lines_covered", "lines"),
    Measure("coverage.lines_total", "lines"),
    Measure("coverage.branches_covered", "branches"),
    Measure("coverage.branches_total", "branches"),
)

COVERAGE_BEFORE = tuple(
    replace(measure, name=measure.name.replace("coverage.", "coverage.before.")) for measure in _COVERED
)
"""Without the run's patches."""

COVERAGE = (*_COVERED, *COVERAGE_BEFORE)

DIFF = tuple(replace(measure, name=measure.name.replace("coverage.", "diff.")) for measure in _COVERED)
"""In diff mode: of the changed lines alone."""
