"""Coverage of what has changed, from coverage.py's own report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import coverage
import pytest

from qefleet.contracts.changes import Changes
from qefleet.contracts.coverage import CoverageTotals
from qefleet.contracts.measured import Measured, Unmeasured
from qefleet.tools.running.diff import diff_coverage, diff_metrics
from qefleet.tools.running.suite import files_of

SOURCE = '''def scale(
    value,
    factor=2,
):
    """Scale what is above zero."""
    if value > 0:
        return dict(
            value=value,
            factor=factor,
        )
    other = value
    return other


def untested():
    return 1
'''


@pytest.fixture
def report(tmp_path: Path) -> Any:
    """What coverage.py says after `scale(1)`."""
    (tmp_path / "shapes.py").write_text(SOURCE)
    measuring = coverage.Coverage(
        data_file=None, branch=True, include=[str(tmp_path / "*")], config_file=False
    )
    code = compile(SOURCE, str(tmp_path / "shapes.py"), "exec")
    namespace: dict[str, Any] = {}
    with measuring.collect():
        exec(code, namespace)
        namespace["scale"](1)
    measuring.json_report(outfile=str(tmp_path / "coverage.json"))
    report = json.loads((tmp_path / "coverage.json").read_text())
    report["files"] = {"shapes.py": next(iter(report["files"].values()))}
    return report


def test_changed_statements_and_branches_are_counted(report: Any, tmp_path: Path) -> None:
    """Unchanged ones are not; what wasn't reached is named."""
    found = diff_coverage(report, Changes({"shapes.py": [(6, 6), (11, 12), (20, 20)]}), tmp_path)

    assert found is not None
    assert found.totals == CoverageTotals(
        lines_covered=1, lines_total=3, branches_covered=1, branches_total=2
    )
    assert found.uncovered == {"shapes.py": [(11, 12)]}


@pytest.mark.parametrize(("line", "total"), [(9, 1), (3, 1), (5, 0), (13, 0)])
def test_line_in_a_statement_changes_the_statement(
    report: Any, tmp_path: Path, line: int, total: int
) -> None:
    """A changed argument on the third line of a call is a changed call; a docstring is no statement."""
    found = diff_coverage(report, Changes({"shapes.py": [(line, line)]}), tmp_path)

    assert found is not None
    assert found.totals.lines_total == total


def test_nothing_to_cover_has_no_percentage(report: Any, tmp_path: Path) -> None:
    """Counts are measured, zero; a share of nothing isn't."""
    found = diff_coverage(report, Changes({"README.md": [(1, 9)]}), tmp_path)
    metrics = diff_metrics(found, tool=0, reason="")

    assert metrics["diff.lines_total"] == Measured(value=0, unit="lines", tool=0)
    assert metrics["diff.line_percent"] == Unmeasured(reason="no statement has changed")


@pytest.mark.parametrize(
    "report", [None, [], {}, {"files": 3}, {"files": {"a.py": {}}}, {"files": {"a.py": None}}]
)
def test_what_is_no_report_measures_nothing(report: Any) -> None:
    """Code under test may have written anything."""
    found = diff_coverage(report, Changes({"a.py": [(1, 1)]}))

    assert found is None
    assert diff_metrics(found, tool=0, reason="no data")["diff.line_percent"] == Unmeasured(reason="no data")


def test_files_of_tests_are_those_that_the_base_has(tmp_path: Path) -> None:
    """Also of modules that couldn't be collected; what leads elsewhere or isn't there is left out."""
    (tmp_path / "tests").mkdir()
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / "tests" / name).touch()
    tests = [
        "tests/test_a.py::test_x[a::b]",
        "tests/test_a.py::test_y",
        "tests.test_b",
        "tests/test_new.py::test_z",
    ]

    assert files_of([*tests, "../test_a.py::test_x", ""], tmp_path) == ["tests/test_a.py", "tests/test_b.py"]
