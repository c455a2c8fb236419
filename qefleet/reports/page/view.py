"""What the page of a run shows, in the page's own words and bounded: the template only lays it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC

from qefleet.contracts.issues import SEVERITIES
from qefleet.contracts.runs import AgentResult
from qefleet.reports.evidence import Evidence
from qefleet.reports.findings import Finding, findings, gate_of
from qefleet.reports.page.charts import Bar
from qefleet.reports.page.cost import CostRow, VersionRow, cost_bars, cost_row, cost_rows, money, versions
from qefleet.reports.page.coverage import CoverageView, coverage_view
from qefleet.reports.page.decision import RuleRow, badge, rule_rows
from qefleet.reports.page.findings import FindingGroup, finding_groups, listed
from qefleet.reports.page.shown import NOTES, Kind, Shown, first
from qefleet.reports.page.steps import StepView, step_bars, step_view
from qefleet.reports.page.tree import Tree, tree
from qefleet.reports.text import figure, seconds

_STEPS = 100
_RULES = 200


@dataclass(frozen=True)
class Tile:
    """A figure at a glance."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Judged:
    """What a model said about a step's findings."""

    step: str
    anchor: str
    said: Tree


@dataclass(frozen=True, kw_only=True)
class View:
    """All of it."""

    target: str
    badge: str
    kind: Kind
    reason: str
    facts: Sequence[tuple[str, str]]
    tiles: Sequence[Tile]
    rules: Shown[RuleRow]
    left_out: Sequence[tuple[str, str]]
    approvals: Sequence[tuple[str, str]]
    evaluations: Shown[str]
    coverage: CoverageView | None
    findings: Sequence[FindingGroup]
    steps: Shown[StepView]
    step_bars: Sequence[Bar]
    judged: Sequence[Judged]
    unjudged: Sequence[tuple[str, str]]
    costs: Sequence[CostRow]
    total: CostRow
    cost_bars: Sequence[Bar]
    versions: Sequence[VersionRow]
    notes: Shown[str]


def view(evidence: Evidence) -> View:
    """Make what the page of a run shows."""
    result, record, gate = evidence.result, evidence.record, gate_of(evidence)
    found = findings(evidence)
    rules = first(rule_rows(gate), _RULES)
    groups = finding_groups(found)
    anchors = _anchors(rules, groups)
    steps = [step for step in result.steps if step.status != "skipped"]
    named = [(f"step-{number}", step) for number, step in enumerate(steps[:_STEPS], 1)]
    decision, kind = badge(result)
    costs = cost_rows(result.steps)
    return View(
        target=result.target,
        badge=decision,
        kind=kind,
        reason=gate.reason if gate else "",
        facts=_facts(evidence),
        tiles=_tiles(evidence, found),
        rules=rules,
        left_out=[*gate.left_out.items()] if gate else [],
        approvals=[
            (said.step, f"{said.sentence} ({said.answered_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)")
            for said in result.approvals
        ],
        evaluations=first(result.evaluations, NOTES),
        coverage=coverage_view(evidence, found),
        findings=groups,
        steps=Shown(
            [step_view(step, anchor, record=record, anchors=anchors) for anchor, step in named],
            len(steps) - len(named),
        ),
        step_bars=step_bars(steps, record),
        judged=[
            Judged(step.step, anchor, tree(step.judged, anchors)) for anchor, step in named if step.judged
        ],
        unjudged=_unjudged(step for _, step in named),
        costs=costs,
        total=cost_row("all", result.usage),
        cost_bars=cost_bars(costs),
        versions=versions(steps),
        notes=first(result.notes, NOTES),
    )


def _unjudged(steps: Iterable[AgentResult]) -> list[tuple[str, str]]:
    """Steps that were to be judged and weren't, and why."""
    return [
        (step.step, f"{step.error.type}: {step.error.message}")
        for step in steps
        if step.error and step.status == "completed"
    ]


def _anchors(rules: Shown[RuleRow], groups: Sequence[FindingGroup]) -> dict[str, str]:
    """By what a judgement may cite: where it is on the page."""
    anchors = {row.rule.rule: row.anchor for row in rules.rows}
    for row in (row for group in groups for row in group.findings.rows):
        for name in (row.cited_as, row.place):
            if name:
                anchors.setdefault(name, row.anchor)
    return anchors


def _facts(evidence: Evidence) -> list[tuple[str, str]]:
    result, record = evidence.result, evidence.record
    facts: list[tuple[str, str]] = []
    if record:
        facts += [("Run", record.workflow_id), ("Pattern", record.pattern)]
        facts.append(("Begun", f"{record.opened_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"))
    facts.append(("Model", "none: nothing is judged" if result.model == "none" else result.model))
    if snapshot := result.snapshot:
        named = f"{snapshot.name} {snapshot.version or ''}".strip()
        facts.append(("Snapshot", f"{named}, {snapshot.files:,} files, {snapshot.digest[:12]}"))
    if environment := result.environment:
        facts.append(("Environment", f"Python {environment.python}, {environment.packages} packages"))
    if evidence.changes is not None:
        facts.append(
            ("Compared with", (snapshot.base.version if snapshot and snapshot.base else "") or "base")
        )
    return facts


def _tiles(evidence: Evidence, found: Sequence[Finding]) -> list[Tile]:
    result, record = evidence.result, evidence.record
    figures = {
        name: value
        for step in result.steps
        for name in step.measured.metrics
        if (value := step.measured.value(name)) is not None
    }
    tiles: list[Tile] = []
    if "tests.total" in figures:
        bad = figures.get("tests.failed", 0) + figures.get("tests.errors", 0)
        note = f"{figure(bad)} failed, {figure(figures.get('tests.skipped', 0))} skipped"
        passed = f"{figure(figures.get('tests.passed', 0))} of {figure(figures['tests.total'])}"
        tiles.append(Tile("Tests passed", passed, note))
    if "coverage.line_percent" in figures:
        now, before = figures["coverage.line_percent"], figures.get("coverage.before.line_percent")
        note = "" if before is None else f"{now - before:+.2f} points"
        tiles.append(Tile("Lines covered", f"{now:.2f} %", note))
    issues = listed(found)
    counts = [(sum(each.severity == severity for each in issues), severity) for severity in SEVERITIES]
    said = ", ".join(f"{count:,} {severity}" for count, severity in counts if count)
    tiles.append(Tile("Findings", f"{len(issues):,}", said))
    if "generation.kept" in figures:
        tiles.append(
            Tile(
                "Tests written",
                f"{figure(figures['generation.kept'])} kept",
                f"of {figure(figures.get('generation.proposed', 0))} proposed",
            )
        )
    if record and record.closed_at:
        tiles.append(Tile("Time", seconds((record.closed_at - record.opened_at).total_seconds())))
    usage = result.usage
    tiles.append(Tile("Cost", money(usage.cost_usd), f"{usage.calls:,} calls of a model"))
    return tiles
