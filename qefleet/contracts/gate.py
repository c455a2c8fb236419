"""What the quality gate found: arithmetic over measurements, no opinion."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.runs import Decision


class RuleResult(Model):
    """One threshold against one measurement."""

    rule: str
    """The threshold's name, such as `line_percent_min`."""
    metric: str
    severity: Literal["hard", "soft"]
    """A hard rule that fails says NO_GO, a soft one CONDITIONAL."""
    limit: float
    actual: float | None
    """Null when it wasn't measured, which fails the rule whatever its severity (and hard)."""
    passed: bool
    reason: str


class GateDecision(Model):
    """The `details` of `quality-gate`."""

    decision: Decision
    rules: list[RuleResult]
    reason: str
    """One sentence: the rules that decided."""
    left_out: dict[str, str] = {}
    """Thresholds that had nothing to compare in diff mode, and why."""
