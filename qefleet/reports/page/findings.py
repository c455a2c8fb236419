"""What is to be looked at, by severity, each with its place on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qefleet.contracts.issues import SEVERITIES, Severity
from qefleet.reports.findings import Finding, Rule
from qefleet.reports.page.shown import Kind, Shown

_PER_SEVERITY = 100
_KINDS: dict[Severity, Kind] = {
    "critical": "bad",
    "high": "bad",
    "medium": "warn",
    "low": "plain",
    "info": "plain",
}
_ELSEWHERE = {Rule.GATE, Rule.UNCOVERED_CODE}
"""Rules are shown with the decision, gaps with the coverage."""


@dataclass(frozen=True, kw_only=True)
class FindingRow:
    """Something to look at."""

    anchor: str
    title: str
    message: str
    place: str
    cited_as: str | None


@dataclass(frozen=True, kw_only=True)
class FindingGroup:
    """All of one severity."""

    severity: Severity
    kind: Kind
    count: int
    findings: Shown[FindingRow]


def listed(found: Sequence[Finding]) -> list[Finding]:
    """Those that the section of findings shows."""
    return [finding for finding in found if finding.rule not in _ELSEWHERE]


def finding_groups(found: Sequence[Finding]) -> list[FindingGroup]:
    """By severity, the worst first."""
    groups: list[FindingGroup] = []
    for severity in SEVERITIES:
        of_it = [finding for finding in listed(found) if finding.severity == severity]
        rows = [
            finding_row(finding, f"{severity}-{number}")
            for number, finding in enumerate(of_it[:_PER_SEVERITY], 1)
        ]
        if of_it:
            shown = Shown(rows, len(of_it) - len(rows))
            groups.append(
                FindingGroup(severity=severity, kind=_KINDS[severity], count=len(of_it), findings=shown)
            )
    return groups


def finding_row(finding: Finding, anchor: str) -> FindingRow:
    """One, at this place of the page."""
    place = finding.file or ""
    if place and finding.lines:
        begin, end = finding.lines
        place += f":{begin}" + (f"-{end}" if end > begin else "")
    return FindingRow(
        anchor=anchor,
        title=finding.title,
        message=finding.message,
        place=place,
        cited_as=finding.cited_as,
    )
