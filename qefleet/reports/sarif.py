"""A run's findings as SARIF 2.1.0, the format of GitHub's code scanning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from qefleet.reports.findings import Finding, Rule

MAX_RESULTS = 5000
"""GitHub shows no more of one file."""
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_PLACELESS = "pyproject.toml"
"""Code scanning refuses results without a place; what concerns the whole project is shown at this file."""
_RULES: dict[str, tuple[str, str, str]] = {
    Rule.FAILING_TEST: ("FailingTest", "error", "A test fails."),
    Rule.FAILED_STEP: ("FailedStep", "error", "An agent could not do its part of the run."),
    Rule.GATE: ("Gate", "error", "A rule of the quality gate doesn't hold."),
    Rule.UNCOVERED_CHANGE: ("UncoveredChange", "warning", "No test reaches a changed line."),
    Rule.UNCOVERED_CODE: ("UncoveredCode", "note", "No test reaches parts of a function."),
}


def sarif(findings: Sequence[Finding], *, succeeded: bool) -> bytes:
    """Write findings as one run of one tool.

    Args:
        findings: The most important first; those beyond `MAX_RESULTS` are left out.
        succeeded: Whether the run came to its end.
    """
    shown = findings[:MAX_RESULTS]
    rules: list[str] = [*_RULES, *sorted({finding.rule for finding in shown} - {*_RULES})]
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "qe-fleet",
                        "semanticVersion": version("qefleet"),
                        "rules": [_rule(rule) for rule in rules],
                    }
                },
                "automationDetails": {"id": "qe-fleet/"},
                "invocations": [{"executionSuccessful": succeeded}],
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, rules) for finding in shown],
            }
        ],
    }
    return (json.dumps(log, indent=1) + "\n").encode()


def _rule(rule: str) -> dict[str, Any]:
    if rule not in _RULES:
        tool, _, name = rule.partition("/")
        return {"id": rule, "name": name, "shortDescription": {"text": f"Reported by {tool} as {name}."}}
    name, level, text = _RULES[rule]
    return {
        "id": rule,
        "name": name,
        "shortDescription": {"text": text},
        "defaultConfiguration": {"level": level},
    }


def _result(finding: Finding, rules: Sequence[str]) -> dict[str, Any]:
    identity = f"{finding.rule}\0{finding.identity}".encode(errors="surrogatepass")
    first, last = finding.lines or (1, 1)
    return {
        "ruleId": str(finding.rule),
        "ruleIndex": rules.index(finding.rule),
        "level": finding.level,
        "message": {"text": finding.message},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {
                        "uri": quote(finding.file or _PLACELESS, errors="replace"),
                        "uriBaseId": "%SRCROOT%",
                    },
                    "region": {"startLine": first, "endLine": last},
                }
            }
        ],
        "partialFingerprints": {"qeFleet/v1": hashlib.sha256(identity).hexdigest()[:32]},
    }
