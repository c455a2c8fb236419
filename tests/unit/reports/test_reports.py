"""Report files, from what pytest and coverage.py really write, against the formats' schemas."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.resources import files
from typing import Any, Literal
from xml.etree.ElementTree import fromstring

import pytest

from qefleet.contracts.changes import Changes
from qefleet.contracts.gate import GateDecision, RuleResult
from qefleet.contracts.measured import ArtifactRef, Measurement
from qefleet.contracts.runs import AgentResult, Decision, RunResult, StepError
from qefleet.contracts.targets import Snapshot
from qefleet.reports.cobertura import cobertura
from qefleet.reports.evidence import Evidence, gather
from qefleet.reports.files import report_files
from qefleet.reports.findings import Finding, Rule, findings
from qefleet.reports.junit import junit
from qefleet.reports.sarif import MAX_RESULTS, sarif
from tests.schemas import check_cobertura, check_junit, check_sarif

SOURCE = """def add(a, b):
    return a + b


def scale(value):
    if value > 0:
        return 2 * value
    return -value
"""
TESTS = """import pytest
from pkg.sums import add


def test_add():
    assert add(1, 2) == 3


def test_wrong():
    total = add(1, 2)
    assert total == 4, "not four \\x1b[31m<&>"


@pytest.mark.skip(reason="not now")
def test_later():
    pass


def test_broken(no_such_fixture):
    pass
"""


def _rule(name: str, severity: Literal["hard", "soft"], *, passed: bool = False) -> RuleResult:
    return RuleResult(
        rule=name, metric="m", severity=severity, limit=0, actual=2, passed=passed, reason=f"{name} says so"
    )


GATE = GateDecision(
    decision=Decision.NO_GO,
    rules=[
        _rule("failed_tests_max", "hard"),
        _rule("line_percent_min", "soft"),
        _rule("coverage_drop_max", "hard", passed=True),
    ],
    reason="tests.failed is 2",
    left_out={"branch_percent_min": "no branch has changed"},
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run of a small suite leaves, with the sandbox's paths."""
    project = tmp_path_factory.mktemp("project")
    for name, text in {"pkg/__init__.py": "", "pkg/sums.py": SOURCE, "tests/test_sums.py": TESTS}.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    pytest_run = "pytest -q -p no:cacheprovider -p qe_pytest_plugin --junitxml=junit.xml"
    commands = (
        f"coverage run --branch --include=pkg/* -m {pytest_run}",
        "coverage json -q -o coverage.json",
        "coverage xml -q -o coverage.xml",
    )
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(files("qefleet.tools.inside"))},
            check=False,
            capture_output=True,
        )
    left = {path.name: path.read_bytes() for path in project.iterdir() if path.is_file()}
    return {name: content.replace(str(project).encode(), b"/src") for name, content in left.items()}


@pytest.fixture
def evidence(written: dict[str, bytes]) -> Evidence:
    return Evidence(
        result=_result(),
        junit=(written["junit.xml"],),
        coverage_json=json.loads(written["coverage.json"]),
        coverage_xml=written["coverage.xml"],
        report=b"# report\n",
    )


def _result(*steps: AgentResult, **more: Any) -> RunResult:
    gate = AgentResult(
        step="quality-gate#3",
        agent="quality-gate",
        status="completed",
        measured=Measurement(details=GATE.model_dump(mode="json")),
    )
    failed = AgentResult(
        step="test-generator#0",
        agent="test-generator",
        status="failed",
        error=StepError(type="BudgetExceeded", message="spent"),
    )
    return RunResult(decision=Decision.NO_GO, target="/x", model="none", steps=[failed, *steps, gate], **more)


def test_files_are_valid_and_named(evidence: Evidence) -> None:
    """Each format's schema accepts its file; a run without a patch has none."""
    written = report_files(evidence)

    assert set(written) == {
        *("report.html", "report.md", "result.json", "junit.xml", "results.sarif", "cobertura.xml")
    }
    check_sarif(written["results.sarif"])
    check_junit(written["junit.xml"])
    check_cobertura(written["cobertura.xml"])
    assert RunResult.model_validate_json(written["result.json"]) == evidence.result


def test_run_without_anything_measured_has_valid_files() -> None:
    """As one has that ended before its first agent."""
    written = report_files(Evidence(result=RunResult(target="/x", model="none")))

    check_sarif(written["results.sarif"])
    check_junit(written["junit.xml"])
    assert set(written) == {"report.html", "result.json", "junit.xml", "results.sarif"}


def test_findings_name_what_fails_and_where(evidence: Evidence) -> None:
    """Errors first; a failing test's line is that of its assertion."""
    found = findings(evidence)

    assert [(f.rule, f.level, f.file, f.lines) for f in found] == [
        (Rule.FAILED_STEP, "error", None, None),
        (Rule.GATE, "error", None, None),
        (Rule.FAILING_TEST, "error", "tests/test_sums.py", (19, 19)),
        (Rule.FAILING_TEST, "error", "tests/test_sums.py", (11, 11)),
        (Rule.GATE, "warning", None, None),
        (Rule.UNCOVERED_CODE, "note", "pkg/sums.py", (6, 8)),
    ]


def test_diff_mode_names_changes_without_a_test_and_forgives_old_failures(written: dict[str, bytes]) -> None:
    """Of what is uncovered only changed lines count; a test that failed before is a note."""
    executor = AgentResult(
        step="test-executor#1",
        agent="test-executor",
        status="completed",
        measured=Measurement(
            details={
                "outcome": "failed",
                "counts": {},
                "duration_s": 1,
                "command": "",
                "failed_before": ["tests/test_sums.py::test_wrong"],
            }
        ),
    )
    evidence = Evidence(
        result=_result(executor),
        junit=(written["junit.xml"],),
        coverage_json=json.loads(written["coverage.json"]),
        changes=Changes({"pkg/sums.py": [(1, 2), (8, 8)]}),
        folder="backend/",
    )

    found = findings(evidence)

    assert [f.level for f in found if "test_wrong" in f.identity] == ["note"]
    assert [(f.file, f.lines) for f in found if f.rule is Rule.UNCOVERED_CHANGE] == [
        ("backend/pkg/sums.py", (8, 8))
    ]
    assert not [f for f in found if f.rule is Rule.UNCOVERED_CODE]


def test_fingerprints_stay_when_lines_move() -> None:
    """Code scanning takes a finding that has moved for the same."""
    logs = [check_sarif(sarif([_finding(line=line)], succeeded=True)) for line in (3, 30)]

    prints = [log["runs"][0]["results"][0]["partialFingerprints"] for log in logs]
    assert prints[0] == prints[1]


def test_sarif_is_bounded_and_its_uris_are_relative() -> None:
    """At most 5,000 results, each with a place below the repository's root."""
    many = [_finding(line=number + 1) for number in range(MAX_RESULTS + 10)]

    log = check_sarif(sarif([_finding(file="a b/ü.py"), *many], succeeded=False))

    results = log["runs"][0]["results"]
    location = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert len(results) == MAX_RESULTS
    assert location == {"uri": "a%20b/%C3%BC.py", "uriBaseId": "%SRCROOT%"}
    assert log["runs"][0]["invocations"] == [{"executionSuccessful": False}]


def _finding(*, file: str = "a.py", line: int = 1) -> Finding:
    return Finding(
        rule=Rule.FAILING_TEST,
        severity="high",
        title="t",
        message="m",
        identity="i",
        file=file,
        lines=(line, line),
    )


def test_junit_has_each_test_once_and_each_rule(written: dict[str, bytes]) -> None:
    """The later file has the say; a rule that is left out counts as skipped."""
    later = (
        b'<testsuites><testsuite name="pytest"><testcase classname="tests.test_sums" name="test_wrong">'
        b'<properties><property name="qe_node_id" value="tests/test_sums.py::test_wrong"/></properties>'
        b"</testcase></testsuite></testsuites>"
    )

    content = junit([written["junit.xml"], later, b"<broken"], gate=GATE, steps=_result().steps)

    check_junit(content)
    root = fromstring(content)
    counts = ("name", "tests", "failures", "errors", "skipped")
    assert [[suite.get(count) for count in counts] for suite in root] == [
        ["pytest", "4", "0", "1", "1"],
        ["qe-fleet", "5", "2", "1", "1"],
    ]


@pytest.mark.parametrize("text", ["\x00\x1b[31m]]>&<", "\ud800", "a\nb\n\nc"])
def test_junit_holds_any_text(text: str) -> None:
    """What XML can't hold is replaced."""
    rule = GATE.rules[0].model_copy(update={"reason": text})

    check_junit(junit([], gate=GATE.model_copy(update={"rules": [rule]}), steps=[]))


def test_cobertura_has_paths_from_the_repositorys_root(written: dict[str, bytes]) -> None:
    """Not those of the sandbox."""
    content = cobertura(written["coverage.xml"], folder="backend/")

    assert content is not None
    root = fromstring(content)
    assert [source.text for source in root.iter("source")] == ["."]
    assert sorted(str(item.get("filename")) for item in root.iter("class")) == [
        "backend/pkg/__init__.py",
        "backend/pkg/sums.py",
    ]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"<coverage",
        b"<other/>",
        b"<coverage/>",
        b'<coverage><sources/><class filename="../../etc/passwd"/></coverage>',
        b'<!DOCTYPE c [<!ENTITY a "aaaaaaaaaa">' + b"".join(
            b'<!ENTITY a%d "%s">' % (n, b"&a%s;" % (str(n - 1).encode() if n else b"") * 10) for n in range(9)
        ) + b"]><coverage>&a8;</coverage>",
    ],
    ids=["missing", "empty", "broken", "other", "bare", "outside", "bomb"],
)  # fmt: skip
def test_what_is_no_cobertura_report_gives_none(content: bytes | None) -> None:
    """The code under test could have written it."""
    assert cobertura(content) is None


async def test_artifacts_of_the_agent_with_the_say_are_gathered() -> None:
    """Tests from the executor, coverage from the analyzer, the latest of each."""
    store: dict[str, bytes] = {}

    def kept(name: str, content: bytes) -> ArtifactRef:
        digest = hashlib.sha256(content).hexdigest()
        store[digest] = content
        return ArtifactRef(name=name, digest=digest, media_type="x", size_bytes=len(content))

    def step(agent: str, position: int, **artifacts: bytes) -> AgentResult:
        return AgentResult(
            step=f"{agent}#{position}",
            agent=agent,
            status="completed",
            artifacts=[kept(name.replace("_", "."), content) for name, content in artifacts.items()],
        )

    result = _result(
        step("test-generator", 0, junit_xml=b"g", coverage_json=b"1", coverage_xml=b"gx"),
        step("test-executor", 1, junit_xml=b"e1"),
        step("coverage-analyzer", 2, junit_xml=b"c", coverage_json=b"2", coverage_xml=b"cx"),
        step("test-executor", 3, junit_xml=b"e2"),
        report=kept("report.md", b"r"),
        patch=kept("run.patch", b"p"),
        snapshot=Snapshot(
            digest="0" * 64, name="x", files=1, size_bytes=1, changes=kept("c", b'{"a.py":[[1,2]]}').digest
        ),
    )

    async def fetch(digest: str) -> bytes:
        return store[digest]

    found = await gather(result, fetch, folder="sub/")

    assert found == Evidence(
        result=result,
        junit=(b"e1", b"e2"),
        coverage_json=2,
        coverage_xml=b"cx",
        changes=Changes({"a.py": [(1, 2)]}),
        report=b"r",
        patch=b"p",
        folder="sub/",
    )
