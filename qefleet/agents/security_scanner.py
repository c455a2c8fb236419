"""security-scanner: weaknesses in the code, secrets in the files, known vulnerabilities of dependencies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import is_about
from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.measured import Measured, Measurement, Metric, Unmeasured
from qefleet.contracts.runs import AgentResult, Limit
from qefleet.contracts.security import SecurityDetails, SinceLast
from qefleet.contracts.steps import Finding
from qefleet.tools.ground import Ground
from qefleet.tools.known import marked_known
from qefleet.tools.own_sources import read_lines
from qefleet.tools.program import ToolReport
from qefleet.tools.release.pins import Installed, Pin, chosen_pins, find_installed, locked_pins
from qefleet.tools.security.advisories import PIP_AUDIT, audit, pin_of
from qefleet.tools.security.baselines import beyond, mark_accepted, read_baselines
from qefleet.tools.security.secrets_found import DETECT_SECRETS, run_detect_secrets
from qefleet.tools.security.weaknesses import (
    BANDIT,
    RUFF,
    BanditFindings,
    RuffFindings,
    Weaknesses,
    is_test,
    merged,
    run_bandit,
    run_ruff,
)

_LISTED = 500
_JUDGED = 15
_LINES_AROUND = 3
_SECRET_LINES = 60
"""A private key goes on for so many lines after the one that is reported."""
_RATED = ("critical", "high", "medium", "low")
_HARD_CODED = frozenset({"B105", "B106", "B107", "S105", "S106", "S107"})


class SecurityScannerOptions(Model):
    """What is accepted, and whom to ask about dependencies."""

    baseline: list[str] = [".secrets.baseline", ".bandit-baseline.json", ".security-baseline.json"]
    """Files of the project: detect-secrets' baseline, bandit's JSON, or this agent's own details."""
    advisories_url: str | None = None
    """Query address of an OSV service, whose host is in QE_ALLOWED_HOSTS; PyPI's advisories without it."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """Of each tool."""


class IssueTriage(BaseModel):
    """What a model makes of one issue."""

    issue: Citation
    reachable: bool
    """Someone outside can bring the code to it."""
    false_positive: bool
    why: str
    fix: str


class SecurityJudgement(BaseModel):
    """The model's part: which issues matter, and how to mend them."""

    summary: str
    triage: list[IssueTriage]


@dataclass(frozen=True)
class _Scan:
    """What the three tools have reported about one tree."""

    bandit: ToolReport[BanditFindings]
    ruff: ToolReport[RuffFindings]
    secrets: ToolReport[list[Issue]]

    @property
    def reports(self) -> tuple[ToolReport[Any], ...]:
        return self.bandit, self.ruff, self.secrets

    @property
    def reason(self) -> str:
        """Why the issues are not all of them; empty where they are."""
        return "; ".join(report.reason for report in self.reports if report.value is None)

    def in_code(self, *, tests: bool) -> Weaknesses:
        """What was found in the code of the tests, or in all the rest."""
        bandit = self.bandit.value.issues if self.bandit.value else ()
        ruff = self.ruff.value.issues if self.ruff.value else ()
        return merged(
            [issue for issue in bandit if is_test(issue.path or "") == tests],
            [issue for issue in ruff if is_test(issue.path or "") == tests],
        )

    @property
    def issues(self) -> list[Issue]:
        """What counts: weaknesses outside of tests, and all secrets."""
        return [*self.in_code(tests=False).issues, *(self.secrets.value or [])]


@dataclass(frozen=True)
class _Audit:
    """What is known of the dependencies."""

    pins: Sequence[Pin]
    reports: Sequence[ToolReport[Any]]
    issues: Sequence[Issue] = ()
    reason: str = ""


async def _measure(ctx: StepContext) -> Finding:
    options: SecurityScannerOptions = ctx.options
    async with ctx.workspace() as workspace:
        scan = await _scan(workspace, options)
        audited = None if ctx.item else await _audit(ctx, workspace)
        accepted, notes = read_baselines(workspace.project, options.baseline)
        found = [issue for issue in scan.issues if is_about(ctx.item, issue.path or "")]
        advised: Sequence[Issue] = audited.issues if audited else ()
        issues = [*found, *advised]
        if ctx.base_workspace and ctx.changes:
            async with ctx.base_workspace() as base:
                issues = marked_known(issues, await _of_base(base, options, advised, notes), ctx.changes)
        issues = numbered(mark_accepted(issues, accepted))
        evidence = _evidence(workspace.project, issues)
    reports = [*scan.reports, *(audited.reports if audited else ())]
    tools = [report.run for report in reports if report.run]
    metrics = _metrics(scan, audited, issues, tools=[run.tool for run in tools])
    details = SecurityDetails(
        issues=issues[:_LISTED],
        agreed=scan.in_code(tests=False).agreed,
        suppressed=scan.bandit.value.suppressed if scan.bandit.value else 0,
        in_tests=len(scan.in_code(tests=True).issues),
        unread=_unread(scan),
        pins=[str(pin) for pin in audited.pins] if audited else [],
        since_last=_since(await ctx.last(), issues),
    )
    return Finding(
        measurement=Measurement(metrics=metrics, tools=tools, details=details.model_dump(mode="json")),
        headline=_headline(metrics),
        artifacts=await keep_all(ctx.artifacts, [kept for report in reports for kept in report.artifacts]),
        notes=[
            *(f"not read: {path}" for path in details.unread),
            *(f"not used: {why}" for why in notes),
            *(report.reason for report in reports if report.value is None),
        ],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
    )


async def _scan(ground: Ground, options: SecurityScannerOptions) -> _Scan:
    bandit, ruff, secrets = await asyncio.gather(
        run_bandit(ground, timeout_s=options.timeout_s),
        run_ruff(ground, timeout_s=options.timeout_s),
        run_detect_secrets(ground, leave_out=options.baseline, timeout_s=options.timeout_s),
    )
    return _Scan(bandit, ruff, secrets)


async def _audit(ctx: StepContext, ground: Ground) -> _Audit:
    """Ask about what the project needs; nobody is asked where it needs nothing."""
    options: SecurityScannerOptions = ctx.options
    installed: ToolReport[Installed] = await find_installed(ground)
    if installed.value is None:
        return _Audit((), (installed,), reason=installed.reason)
    pins = chosen_pins(locked_pins(ground.project), installed.value)
    missing = [name for name in installed.value.absent if name not in {pin.name for pin in pins}]
    if missing:
        reason = f"no version is known of {', '.join(missing[:5])}: not installed, and in no lock file"
        return _Audit(pins, (installed,), reason=reason)
    if options.advisories_url and not _allowed(options.advisories_url, ctx.allowed_hosts):
        reason = f"{options.advisories_url} is not asked: add its host to QE_ALLOWED_HOSTS"
        return _Audit(pins, (installed,), reason=reason)
    reports = await audit(pins, url=options.advisories_url, timeout_s=options.timeout_s)
    return _Audit(
        pins,
        (installed, *reports),
        issues=[issue for report in reports for issue in report.value or []],
        reason="; ".join(report.reason for report in reports if report.value is None),
    )


def _allowed(url: str, hosts: frozenset[str]) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool({parts.hostname or "", parts.netloc} & hosts)


async def _of_base(
    ground: Ground, options: SecurityScannerOptions, advised: Sequence[Issue], notes: list[str]
) -> list[Issue]:
    """What the base of diff mode had. Where it can't be scanned, everything counts as new."""
    scan, installed = await asyncio.gather(_scan(ground, options), find_installed(ground))
    if scan.reason:
        notes.append(f"the base could not be scanned: {scan.reason}")
    locked = locked_pins(ground.project)
    pins = {str(pin) for pin in (chosen_pins(locked, installed.value) if installed.value else locked)}
    return [*scan.issues, *(issue for issue in advised if pin_of(issue) in pins)]


def _metrics(
    scan: _Scan, audited: _Audit | None, issues: Sequence[Issue], *, tools: list[str]
) -> dict[str, Metric]:
    """Counts of what isn't known from before; by severity only where each of the three tools has reported."""
    own = [issue for issue in issues if issue.tool != PIP_AUDIT.name]
    new = [issue for issue in own if not issue.known]

    def count(found: Sequence[Issue], tool: str, reason: str) -> Metric:
        if reason:
            return Unmeasured(reason=reason)
        return Measured(value=len(found), unit="issues", tool=tools.index(tool))

    metrics: dict[str, Metric] = {
        f"security.{severity}": count(
            [issue for issue in new if issue.severity == severity], BANDIT.name, scan.reason
        )
        for severity in _RATED
    }
    secrets = [issue for issue in new if issue.tool == DETECT_SECRETS.name and issue.severity == "critical"]
    reason = scan.secrets.reason if scan.secrets.value is None else ""
    metrics["security.secrets"] = count(secrets, DETECT_SECRETS.name, reason)
    metrics["security.known"] = count([i for i in own if i.known], BANDIT.name, scan.reason)
    if audited:
        metrics["security.vulnerable_dependencies"] = _vulnerable(audited, issues, tools)
    return metrics


def _vulnerable(audited: _Audit, issues: Sequence[Issue], tools: list[str]) -> Metric:
    if audited.reason:
        return Unmeasured(reason=audited.reason)
    new = {pin_of(issue) for issue in issues if issue.tool == PIP_AUDIT.name and not issue.known}
    return Measured(value=len(new), unit="dependencies", tool=len(tools) - 1)


def _unread(scan: _Scan) -> list[str]:
    reports = (scan.bandit.value, scan.ruff.value)
    return sorted({path for report in reports if report for path in report.unread})


def _since(last: AgentResult | None, issues: Sequence[Issue]) -> SinceLast | None:
    if last is None or "issues" not in last.measured.details:
        return None
    before = [Issue.model_validate(found) for found in last.measured.details["issues"]]
    return SinceLast(
        appeared=[issue.id for issue in beyond(issues[:_LISTED], before)],
        gone=[issue.id for issue in beyond(before, issues[:_LISTED])],
    )


def _evidence(project: Path, issues: Sequence[Issue]) -> list[dict[str, Any]]:
    """The most severe new issues with the code around them, and no line that may hold a secret."""
    hidden = [
        (issue.path, range(issue.line, issue.line + _SECRET_LINES))
        for issue in issues
        if issue.line and (issue.tool == DETECT_SECRETS.name or issue.rule in _HARD_CODED)
    ]
    shown: list[dict[str, Any]] = []
    for issue in [issue for issue in issues if not issue.known][:_JUDGED]:
        entry: dict[str, Any] = issue.model_dump(mode="json", exclude={"known", "end_line", "tool"})
        own = [lines for path, lines in hidden if path == issue.path]
        shown.append(entry | {"code": _code(project, issue, own)})
    return shown


def _code(project: Path, issue: Issue, hidden: Sequence[range]) -> list[str]:
    if issue.path is None or issue.line is None:
        return []
    first = max(1, issue.line - _LINES_AROUND)
    lines = read_lines(project, issue.path)[first - 1 : issue.line + _LINES_AROUND]
    return [
        "(left out)" if any(number in lines_of for lines_of in hidden) else line[:200]
        for number, line in enumerate(lines, first)
    ]


def _headline(metrics: dict[str, Metric]) -> str:
    def said(name: str) -> str:
        metric = metrics.get(f"security.{name}")
        return f"{metric.value:g}" if isinstance(metric, Measured) else "an unknown number of"

    counts = ", ".join(f"{said(severity)} {severity}" for severity in _RATED)
    text = f"{counts} issues, {said('secrets')} leaked keys"
    if "security.vulnerable_dependencies" in metrics:
        text += f", {said('vulnerable_dependencies')} vulnerable dependencies"
    return text


SECURITY_SCANNER = Agent(
    id="security-scanner",
    title="security-scanner",
    purpose="Finds weaknesses in the code, secrets in the files, and dependencies known to be vulnerable.",
    tier="complex",
    tools=(BANDIT, RUFF, DETECT_SECRETS, PIP_AUDIT),
    measures=(
        Measure("security.critical", "issues", additive=True, limit=Limit(max=0)),
        Measure("security.high", "issues", additive=True, limit=Limit(max=0, severity="soft")),
        Measure("security.medium", "issues", additive=True),
        Measure("security.low", "issues", additive=True),
        Measure("security.secrets", "issues", additive=True, limit=Limit(max=0)),
        Measure("security.known", "issues", additive=True),
        Measure("security.vulnerable_dependencies", "dependencies", limit=Limit(max=0, severity="soft")),
    ),
    options=SecurityScannerOptions,
    measure=_measure,
    judgement=Judgement(prompt="security-scanner", response=SecurityJudgement),
    memory_key="security/vulnerabilities",
    memory_reads=("notes/*",),
)
