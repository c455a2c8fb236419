"""Reports as values: JUnit, coverage, gain, doctest examples, merged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qefleet.contracts.coverage import CoverageGap, CoverageReport, CoverageTotals, FileChange, FileCoverage
from qefleet.contracts.execution import SuiteCounts
from qefleet.contracts.generation import Gain, GenerationState, KeptTest, Segment
from qefleet.contracts.measured import Unmeasured
from qefleet.tools.generation.doctests import propose_from_docstring
from qefleet.tools.generation.gain import find_gain, merge_gain
from qefleet.tools.generation.keep import kept_files
from qefleet.tools.project import read_layout
from qefleet.tools.running.coverage import coverage_metrics, file_changes, parse_coverage, worst_gaps
from qefleet.tools.running.junit import parse_junit
from qefleet.tools.source_tree import parse_source

_JUNIT = b"""<testsuites><testsuite>
<testcase classname="t" name="ok">
  <properties><property name="qe_node_id" value="t.py::ok"/></properties>
</testcase>
<testcase classname="t" name="bad"><failure message="assert 1 == 2">long text</failure></testcase>
<testcase classname="t" name="down"/>
<testcase classname="t" name="down"><error message="tear-down">x</error></testcase>
<testcase classname="t" name="later"><skipped type="pytest.xfail" message=""/></testcase>
</testsuite></testsuites>"""


def test_junit_counts_each_test_once_by_its_worst_outcome() -> None:
    """A test that passes and breaks in tear-down is one error, not two tests."""
    junit = parse_junit(_JUNIT)

    assert junit is not None
    assert junit.counts == SuiteCounts(total=4, passed=1, failed=1, errors=1, skipped=1)
    assert [(test.node_id, test.kind) for test in junit.failing] == [
        ("t::bad", "failure"),
        ("t::down", "error"),
    ]


@pytest.mark.parametrize("content", [None, b"", b"<testsuites><testsuite>", b"no xml", b"\xff\xfe"])
def test_a_missing_or_broken_junit_file_is_no_report(content: bytes | None) -> None:
    """Nothing is read out of a report that isn't one."""
    assert parse_junit(content) is None


def _file(path: str, covered: int, missing: list[int]) -> FileCoverage:
    totals = CoverageTotals(lines_covered=covered, lines_total=covered + len(missing))
    return FileCoverage(path=path, totals=totals, missing_lines=missing, missing_branches=[])


def _report(*files: FileCoverage) -> CoverageReport:
    return CoverageReport(totals=sum((file.totals for file in files), CoverageTotals()), files=list(files))


def test_coverage_json_is_read_into_totals_files_and_functions() -> None:
    """Only functions with something missing are kept, and totals are added up from the files."""
    summary = {"covered_lines": 3, "num_statements": 4, "covered_branches": 1, "num_branches": 2}
    function = {"missing_lines": [7], "missing_branches": [[6, 7]], "summary": {"num_statements": 2}}
    full: dict[str, Any] = {"missing_lines": [], "missing_branches": [], "summary": {"num_statements": 2}}
    entry: dict[str, Any] = {
        "summary": summary,
        "missing_lines": [7],
        "missing_branches": [[6, 7]],
        "functions": {"f": function, "g": full},
    }

    report = parse_coverage({"files": {"a.py": entry}})

    assert report is not None
    assert (report.totals.line_percent, report.totals.branch_percent) == (75.0, 50.0)
    assert worst_gaps(report) == [
        CoverageGap(file="a.py", function="f", missing_lines=1, missing_branches=1, lines_total=2)
    ]


@pytest.mark.parametrize("content", [None, [], {"files": {"a.py": {}}}, {"files": 3}])
def test_other_json_is_no_coverage_report(content: object) -> None:
    """Code under test can write anything over the report."""
    assert parse_coverage(content) is None


def test_nothing_to_cover_is_not_measured() -> None:
    """A share of nothing is no number."""
    metrics = coverage_metrics(CoverageTotals(), tool=1)

    assert metrics["coverage.line_percent"] == Unmeasured(reason="there is nothing to cover")


def test_changes_list_the_files_that_differ() -> None:
    """A file that is new counts from zero; equal ones are left out."""
    before = _report(_file("a.py", 1, [2]), _file("b.py", 5, []))
    after = _report(_file("a.py", 2, []), _file("b.py", 5, []), _file("c.py", 9, []))

    changes = file_changes(before, after)

    assert changes == [
        FileChange(
            path="c.py", before=CoverageTotals(), after=CoverageTotals(lines_covered=9, lines_total=9)
        ),
        FileChange(
            path="a.py",
            before=CoverageTotals(lines_covered=1, lines_total=2),
            after=CoverageTotals(lines_covered=2, lines_total=2),
        ),
    ]


def test_gain_counts_against_what_is_still_open() -> None:
    """What an earlier test reached is no gain of a later one."""
    state = GenerationState(
        open_lines={"a.py": [3, 4, 5]}, open_branches={"a.py": [(2, 3)]}, base_total=1, base_duration_s=1
    )
    report = _report(_file("a.py", 3, [5]), _file("b.py", 3, []))

    gains = find_gain(report, state)
    lines, branches = merge_gain(state, gains)
    after = state.model_copy(update={"open_lines": lines, "open_branches": branches})

    assert gains == [Gain(file="a.py", lines=[3, 4], branches=[(2, 3)])]
    assert (after.open_lines, after.open_branches) == ({"a.py": [5]}, {})
    assert find_gain(report, after) == []


def _proposal(docstring: str) -> str | None:
    tree = parse_source(f'def f(x):\n    """{docstring}"""\n    return x\n')
    assert tree is not None
    segment = Segment(
        id="m:f",
        file="m.py",
        module="m",
        qualname="f",
        start_line=1,
        end_line=3,
        source="",
        missing_lines=[3],
        missing_branches=[],
        import_line="from m import f",
    )
    return propose_from_docstring(segment, tree)


@pytest.mark.parametrize(
    ("docstring", "lines"),
    [
        ("\n    >>> f(1)\n    1\n    ", ["assert f(1) == 1"]),
        ("\n    >>> f(1) == 1\n    True\n    ", ["assert f(1) == 1"]),
        ("\n    >>> f({})\n    Box(1)\n    ", ["assert repr(f({})) == 'Box(1)'"]),
        ("\n    >>> y = 2\n    >>> f(y)\n    2\n    ", ["y = 2", "assert f(y) == 2"]),
        ("\n    >>> print(f(1))\n    1\n    ", ["print(f(1))", "assert capsys.readouterr().out == '1\\n'"]),
        (
            "\n    >>> f()\n    Traceback (most recent call last):\n    TypeError: x\n    ",
            ["with pytest.raises(TypeError):", "    f()"],
        ),
    ],
)
def test_docstring_examples_become_assertions(docstring: str, lines: list[str]) -> None:
    """Each form of an example with a result is a promise that can be asserted."""
    proposal = _proposal(docstring)

    assert proposal is not None
    assert [line[4:] for line in proposal.strip().split("\n")[1:]] == lines


@pytest.mark.parametrize(
    "docstring", ["No examples.", "\n    >>> f(1)\n    ", "\n    >>> f(1)\n    <object at 0x7f>\n    "]
)
def test_examples_without_a_comparable_result_propose_nothing(docstring: str) -> None:
    """Running code without a result to compare is no test."""
    assert _proposal(docstring) is None


def _kept(name: str, imports: list[str], helpers: list[str], module: str = "pkg.mod") -> KeptTest:
    source = f"def {name}():\n    assert double(1) == 2"
    return KeptTest(name=name, segment="s", module=module, imports=imports, helpers=helpers, source=source)


def test_kept_tests_are_merged_into_one_file_a_module(tmp_path: Path) -> None:
    """Imports and helpers that tests share appear once."""
    kept = [
        _kept("test_a", ["import re", "from pkg.mod import double"], ["X = 1"]),
        _kept("test_b", ["from pkg.mod import Box", "from pkg.mod import double"], ["X = 1"]),
        _kept("test_c", ["from pkg.other import y"], [], module="pkg.other"),
    ]

    files = kept_files(tmp_path, read_layout(tmp_path), kept)

    assert sorted(files) == ["tests/test_qe_pkg_mod.py", "tests/test_qe_pkg_other.py"]
    code = files["tests/test_qe_pkg_mod.py"].split('"""\n\n', 1)[1]
    assert code == (
        "import re\nfrom pkg.mod import Box, double\n\n\nX = 1\n\n\n"
        "def test_a():\n    assert double(1) == 2\n\n\ndef test_b():\n    assert double(1) == 2\n"
    )


def test_one_name_with_two_meanings_goes_to_two_files(tmp_path: Path) -> None:
    """Helpers of the same name that differ never shadow each other, and existing files stay."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_qe_pkg_mod.py").write_text("")
    kept = [_kept("test_a", [], ["X = 1"]), _kept("test_b", [], ["X = 2"])]

    files = kept_files(tmp_path, read_layout(tmp_path), kept)

    assert sorted(files) == ["tests/test_qe_pkg_mod_2.py", "tests/test_qe_pkg_mod_3.py"]
