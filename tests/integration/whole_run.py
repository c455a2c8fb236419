"""Evidence of a run in which something of everything is found, with hostile names wherever a name can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from qefleet.contracts.coverage import CoverageDetails, CoverageTotals, FileChange
from qefleet.contracts.gate import GateDecision, RuleResult
from qefleet.contracts.issues import SEVERITIES, Issue, issue_id
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, ToolRun, Unmeasured
from qefleet.contracts.runs import AgentResult, ApprovalRecord, Decision, RunResult, StepError, Usage
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.reports.evidence import Evidence, RunRecord

HOSTILE = '<script src="https://evil.example/x.js">alert("pwned")</script>\x1b\u202e]]>&amp;'
"""In a file's name, a test's name, messages, judgements, notes."""
DIGEST = "ab" * 32
OPENED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
JUNIT = (
    b'<testsuites><testsuite name="pytest"><testcase classname="tests.test_a" name="test_x">'
    b'<properties><property name="qe_node_id" value="tests/test_a.py::test_x[&lt;script&gt;]"/></properties>'
    b'<failure message="assert 1 == &lt;script&gt;2&lt;/script&gt;">tests/test_a.py:7: AssertionError'
    b"</failure></testcase></testsuite></testsuites>"
)
JUDGED = {
    "summary": f"the query is built from strings {HOSTILE}",
    "triage": [
        {"issue": "B608@app/db.py:12", "reachable": True, "why": "it is reached"},
        {"issue": "nothing@that/is:there", "reachable": False, "why": HOSTILE},
    ],
    "tests": ["tests/test_a.py::test_x[<script>]"],
    "rule": "line_percent_min",
}


def whole_run(*, issues: int = 6, files: int = 4, steps: int = 0) -> Evidence:
    """A run with all sections.

    Args:
        issues: How many a scanner found.
        files: Covered files.
        steps: Further steps.
    """
    results = [_scanner(issues), _coverage(), _failed(), *(_plain(n) for n in range(steps)), _gate()]
    ended = [OPENED + timedelta(seconds=4 * number) for number in range(1, len(results) + 1)]
    return Evidence(
        result=RunResult(
            decision=Decision.NO_GO,
            target=f"/home/me/{HOSTILE}",
            model="local",
            snapshot=Snapshot(digest=DIGEST, name=HOSTILE, version="1", files=3, size_bytes=9),
            environment=Environment(digest=DIGEST, requirements=DIGEST, python="3.11.7", packages=8),
            steps=results,
            usage=Usage(calls=3, replayed_calls=1, input_tokens=900, output_tokens=90, cost_usd=0.0123),
            approvals=[
                ApprovalRecord(
                    step="decision",
                    verdict="rejected",
                    by=HOSTILE,
                    why="not yet",
                    asked_at=OPENED,
                    answered_at=OPENED,
                )
            ],
            evaluations=[f"branches.0: coverage.line_percent < 80 holds [{HOSTILE}]"],
            notes=[f"a note {HOSTILE}"],
        ),
        junit=(JUNIT,),
        coverage_json={"files": {f"app/part_{number}{HOSTILE}.py": _file(number) for number in range(files)}},
        patch=f"--- a/x\n+++ b/x\n+{HOSTILE}\n".encode(),
        record=RunRecord(
            workflow_id="qe-whole-1",
            pattern="Pipeline",
            opened_at=OPENED,
            closed_at=OPENED + timedelta(seconds=70),
            recorded_at={step.step: at for step, at in zip(results, ended, strict=True)},
        ),
    )


def _tool(name: str, *argv: str) -> ToolRun:
    artifact = ArtifactRef(name=f"{name}.json", digest=DIGEST, media_type="application/json", size_bytes=2)
    return ToolRun(
        tool=name, version="1.2.3", argv=[name, *argv], exit_code=0, duration_s=1.5, artifact=artifact
    )


def _scanner(count: int) -> AgentResult:
    issues = [
        Issue(
            id=issue_id("B608", "app/db.py", 12 + number),
            tool="bandit",
            rule="B608",
            severity=SEVERITIES[number % len(SEVERITIES)],
            message=f"SQL from strings, place {number} {HOSTILE}",
            path="app/db.py",
            line=12 + number,
        )
        for number in range(count)
    ]
    details: dict[str, Any] = {
        "issues": [issue.model_dump(mode="json") for issue in issues],
        "packages": [{"name": HOSTILE, "version": str(number)} for number in range(count)],
    }
    return AgentResult(
        step="security-scanner#0",
        agent="security-scanner",
        status="completed",
        headline=f"{count} issues {HOSTILE}",
        measured=Measurement(
            metrics={
                "security.high": Measured(value=count, unit="issues", tool=0),
                "security.secrets": Unmeasured(reason=f"detect-secrets isn't installed {HOSTILE}"),
            },
            tools=[_tool("bandit", "-r", HOSTILE)],
            details=details,
        ),
        judged=JUDGED,
        usage=Usage(calls=3, replayed_calls=1, input_tokens=900, output_tokens=90, cost_usd=0.0123),
        notes=[HOSTILE],
        duration_s=3.5,
    )


def _coverage() -> AgentResult:
    before = CoverageTotals(lines_covered=5, lines_total=10, branches_covered=1, branches_total=4)
    after = CoverageTotals(lines_covered=8, lines_total=10, branches_covered=3, branches_total=4)
    change = FileChange(path=f"app/part_0{HOSTILE}.py", before=before, after=after)
    return AgentResult(
        step="coverage-analyzer#1",
        agent="coverage-analyzer",
        status="completed",
        headline="80.00 % lines",
        measured=Measurement(
            metrics={
                "coverage.line_percent": Measured(value=80, unit="percent", tool=0),
                "coverage.before.line_percent": Measured(value=50, unit="percent", tool=0),
                "tests.total": Measured(value=12, unit="tests", tool=0),
                "tests.passed": Measured(value=11, unit="tests", tool=0),
                "tests.failed": Measured(value=1, unit="tests", tool=0),
            },
            tools=[_tool("coverage", "json")],
            details=CoverageDetails(totals=after, before=before, changes=[change], files=4).model_dump(
                mode="json"
            ),
        ),
        duration_s=3.0,
    )


def _failed() -> AgentResult:
    return AgentResult(
        step="test-generator#2",
        agent="test-generator",
        status="failed",
        error=StepError(type="BudgetExceeded", message=f"spent {HOSTILE}", attempts=3),
        duration_s=2.0,
    )


def _plain(number: int) -> AgentResult:
    return AgentResult(step=f"echo#{10 + number}", agent="echo", status="completed", duration_s=0.5)


def _gate() -> AgentResult:
    gate = GateDecision(
        decision=Decision.NO_GO,
        rules=[
            RuleResult(
                rule="line_percent_min",
                metric="coverage.line_percent",
                severity="soft",
                limit=75,
                actual=80,
                passed=True,
                reason="coverage.line_percent is 80, at least 75 asked",
            ),
            RuleResult(
                rule="security.secrets",
                metric="security.secrets",
                severity="soft",
                limit=0,
                actual=None,
                passed=False,
                reason=f"security.secrets is not measured: {HOSTILE}",
            ),
        ],
        reason=f"security.secrets is not measured: {HOSTILE}",
        left_out={"branch_percent_min": "no branch has changed"},
    )
    return AgentResult(
        step="quality-gate#3",
        agent="quality-gate",
        status="completed",
        headline="NO_GO",
        decision=Decision.NO_GO,
        measured=Measurement(tools=[_tool("bandit")], details=gate.model_dump(mode="json")),
        duration_s=0.02,
    )


def _file(number: int) -> dict[str, Any]:
    return {
        "executed_lines": [1, 2],
        "missing_lines": [3],
        "executed_branches": [[1, 2]],
        "missing_branches": [[1, 3]],
        "summary": {"covered_lines": 2 + number, "num_statements": 3 + number},
        "functions": {},
    }
