"""The decision and why: the gate's rules, each with what was asked and what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from qefleet.contracts.gate import GateDecision, RuleResult
from qefleet.contracts.runs import RunResult
from qefleet.reports.page.shown import Kind
from qefleet.reports.text import NOTHING, figure

_KINDS: dict[str, Kind] = {"GO": "good", "CONDITIONAL": "warn", "NO_GO": "bad"}


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """A rule of the gate."""

    anchor: str
    rule: RuleResult
    kind: Kind
    outcome: str
    asked: str
    actual: str


def badge(result: RunResult) -> tuple[str, Kind]:
    """The decision in a word or two, and its colour."""
    if result.decision:
        return result.decision.value.replace("_", " "), _KINDS[result.decision.value]
    failed = any(step.status == "failed" for step in result.steps)
    return ("steps failed", "bad") if failed else ("no gate", "plain")


def rule_rows(gate: GateDecision | None) -> list[RuleRow]:
    """Those that fail first."""
    rows: list[RuleRow] = []
    for number, rule in enumerate(gate.rules if gate else [], 1):
        hard = rule.severity == "hard" or rule.actual is None
        least = rule.rule.endswith("_min") or "at least" in rule.reason
        rows.append(
            RuleRow(
                anchor=f"rule-{number}",
                rule=rule,
                kind="good" if rule.passed else ("bad" if hard else "warn"),
                outcome="holds" if rule.passed else "fails",
                asked=f"{'at least' if least else 'at most'} {figure(rule.limit)}",
                actual=NOTHING if rule.actual is None else figure(rule.actual),
            )
        )
    return sorted(rows, key=lambda row: ("bad", "warn", "good").index(row.kind))
