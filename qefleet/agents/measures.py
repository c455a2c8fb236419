"""What several agents can measure, as they declare it; the tools that give it name each metric once more."""

from __future__ import annotations

from dataclasses import replace

from qefleet.agents.agent import Measure

TESTS = tuple(
    Measure(f"tests.{name}", "tests") for name in ("total", "passed", "failed", "errors", "skipped")
)
"""Of one run of a suite, whole or in part: items may share tests, so nothing can be summed."""

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
