"""production-intelligence: what logs and the tests' history show; a model makes scenarios of incidents."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from qefleet.agents.agent import Agent, Judgement, LoopOptions, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.incidents import REPRODUCED, IncidentScenarios, begin
from qefleet.agents.parts import is_about
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.production import (
    Anomaly,
    ChangePoint,
    Incident,
    ProductionDetails,
    Template,
)
from qefleet.contracts.steps import Finding
from qefleet.errors import InvalidInput
from qefleet.memory.artifacts import reference
from qefleet.tools.production.history import LEAST_RUNS, History, read_history
from qefleet.tools.production.incidents import find_incidents
from qefleet.tools.production.logs import LOGS, Logs, judge_rates, matching, read_logs
from qefleet.tools.production.series import LEAST_BUCKETS
from qefleet.tools.program import Tool, ToolReport
from qefleet.workspace.workspace import Workspace

JUNITPARSER = Tool(name="junitparser")

_LISTED = 100
_JUDGED = 8
_OF_LINES = {"production.lines": "lines", "production.templates": "templates"}
_OF_RATES = {
    "production.anomalies": "anomalies",
    "production.change_points": "changes",
    "production.new_templates": "templates",
}
_ERROR_RATE = "production.error_rate"
_INCIDENTS = "production.incidents"
_OF_TESTS = {"production.newly_failing_tests": "tests", "production.slowed_tests": "tests"}

Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class ProductionIntelligenceOptions(LoopOptions):
    """Where logs and reports are, and how much of them counts."""

    logs: list[Pattern] = ["logs/**/*.log", "logs/**/*.jsonl", "log/**/*.log", "*.log"]
    """Globs of files of the project."""
    junit: list[Pattern] = ["reports/junit/**/*.xml"]
    """Globs of JUnit reports, one a run."""
    window_hours: Annotated[float, Field(gt=0)] | None = None
    """How much of the logs counts, back from their last line; all of them without it."""
    bucket_s: Annotated[int, Field(ge=1)] | None = None
    """Width of the buckets of time in which events are counted; by the logs' span without it."""
    max_mib: Annotated[int, Field(ge=1, le=1024)] = 100
    """Of log files: what is beyond isn't read, and a note says so."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 300.0
    max_rounds: Annotated[int, Field(ge=1, le=3)] = 2
    """Tests proposed for each incident."""
    max_incidents: Annotated[int, Field(ge=0, le=20)] = 3
    """For which tests are proposed, the most frequent first."""


class Scenario(BaseModel):
    """A test in words."""

    given: str
    when: str
    then: str


class IncidentJudgement(BaseModel):
    """What belongs together, and how a test would have shown it."""

    title: str
    cites: list[Citation]
    cause: str
    scenario: Scenario


class ProductionJudgement(BaseModel):
    """The model's part: incidents, and a scenario for each."""

    incidents: list[IncidentJudgement]


@dataclass
class _Gathered:
    """The measurement as it grows."""

    metrics: dict[str, Metric] = field(default_factory=dict[str, Metric])
    tools: list[ToolRun] = field(default_factory=list[ToolRun])
    artifacts: list[tuple[ArtifactRef, bytes]] = field(default_factory=list[tuple[ArtifactRef, bytes]])
    notes: list[str] = field(default_factory=list[str])

    def measured(self, units: dict[str, str], values: Sequence[float]) -> None:
        """Numbers of the latest tool run."""
        tool = len(self.tools) - 1
        for (name, unit), value in zip(units.items(), values, strict=True):
            self.metrics[name] = Measured(value=value, unit=unit, tool=tool)

    def unmeasured(self, names: Sequence[str], reason: str) -> None:
        """Metrics that there are no numbers of, and why."""
        self.metrics |= {name: Unmeasured(reason=reason) for name in names}

    def ran(self, tool: Tool, argv: list[str], started: float, found: object) -> None:
        """Reading of our own, on the worker, with what it gave as its artifact."""
        content = json.dumps(found, indent=1).encode()
        ref = reference(content, name=f"{argv[0]}.json", media_type="application/json")
        self.artifacts.append((ref, content))
        self.tools.append(
            ToolRun(
                tool=tool.name,
                version=tool.version() or "unknown",
                argv=argv,
                exit_code=0,
                duration_s=time.monotonic() - started,
                artifact=ref,
            )
        )


async def _measure(ctx: StepContext) -> Finding:
    gathered = _Gathered()
    async with ctx.workspace() as workspace:
        logs, files = await _logs(ctx, workspace, gathered)
        incidents = await _incidents(logs, workspace, gathered) if logs else []
        anomalies, changes = await _rates(logs, gathered) if logs else ([], [])
        history = await _history(ctx, workspace, gathered)
    templates = list(logs.templates) if logs else []
    details = ProductionDetails(
        files=files,
        begins=logs.begins if logs else None,
        bucket_s=logs.bucket_s if logs else None,
        buckets=logs.buckets if logs else 0,
        templates=_listed(templates, anomalies, changes),
        unknown_before=await _unknown_before(ctx, templates),
        anomalies=anomalies[:_LISTED],
        change_points=changes[:_LISTED],
        incidents=incidents,
        junit_files=list(history.files),
        newly_failing=list(history.newly_failing[:_LISTED]),
        slowed=list(history.slowed[:_LISTED]),
        failing=list(history.failing[:_LISTED]),
    )
    issues = numbered(_issues(details))
    details = details.model_copy(update={"issues": issues})
    evidence = _evidence(details)
    finding = Finding(
        measurement=Measurement(
            metrics=gathered.metrics, tools=gathered.tools, details=details.model_dump(mode="json")
        ),
        headline=_headline(gathered.metrics),
        artifacts=await keep_all(ctx.artifacts, gathered.artifacts),
        notes=gathered.notes,
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
    )
    options: ProductionIntelligenceOptions = ctx.options
    return await begin(ctx, finding, incidents[: options.max_incidents])


async def _logs(ctx: StepContext, workspace: Workspace, gathered: _Gathered) -> tuple[Logs | None, list[str]]:
    options: ProductionIntelligenceOptions = ctx.options
    names = [*_OF_LINES, _ERROR_RATE, _INCIDENTS, *_OF_RATES]
    files = _files(ctx, workspace, "logs", options.logs)
    if not files:
        gathered.unmeasured(names, f"the project has no log file {' or '.join(options.logs)}")
        return None, []
    report: ToolReport[Logs] = await read_logs(
        workspace,
        files,
        window_s=int(options.window_hours * 3600) if options.window_hours else None,
        bucket_s=options.bucket_s,
        most_bytes=options.max_mib << 20,
        timeout_s=options.timeout_s,
    )
    gathered.tools += [report.run] if report.run else []
    gathered.artifacts += report.artifacts
    logs = report.value
    if logs is None:
        gathered.unmeasured(names, report.reason)
        return None, files
    gathered.measured(_OF_LINES, (logs.lines, logs.templates_total))
    if logs.events:
        gathered.measured({_ERROR_RATE: "percent"}, (round(100 * logs.errors / logs.events, 6),))
    else:
        gathered.unmeasured([_ERROR_RATE], "the log files have no lines")
    gathered.notes += [f"{path} was not read to its end: logs are beyond max_mib" for path in logs.unread]
    return logs, files


async def _incidents(logs: Logs, workspace: Workspace, gathered: _Gathered) -> list[Incident]:
    found = await asyncio.to_thread(find_incidents, workspace.project, logs.tracebacks)
    gathered.measured({_INCIDENTS: "incidents"}, (len(found),))
    return found


async def _rates(logs: Logs, gathered: _Gathered) -> tuple[list[Anomaly], list[ChangePoint]]:
    if logs.buckets < LEAST_BUCKETS:
        reason = (
            f"the logs' times span {logs.buckets} buckets of {logs.bucket_s} s, fewer than {LEAST_BUCKETS}"
        )
        gathered.unmeasured([*_OF_RATES], reason)
        return [], []
    started = time.monotonic()
    anomalies, changes = await asyncio.to_thread(judge_rates, logs)
    found = [it.model_dump(mode="json") for it in (*anomalies, *changes)]
    gathered.ran(LOGS, ["rates", f"{len(logs.series)} series", f"{logs.buckets} buckets"], started, found)
    new = sum(template.new for template in logs.templates)
    gathered.measured(_OF_RATES, (len(anomalies), len(changes), new))
    return anomalies, changes


async def _history(ctx: StepContext, workspace: Workspace, gathered: _Gathered) -> History:
    options: ProductionIntelligenceOptions = ctx.options
    files = _files(ctx, workspace, "junit", options.junit)
    started = time.monotonic()
    history = await asyncio.to_thread(read_history, workspace.project, files)
    gathered.notes += [f"{path} is no JUnit report that can be read" for path in history.unreadable]
    if len(history.files) < LEAST_RUNS:
        reason = (
            f"{len(history.files)} JUnit reports {' or '.join(options.junit)} that can be read: "
            f"a history needs {LEAST_RUNS}"
        )
        gathered.unmeasured([name for name in _OF_TESTS if name not in gathered.metrics], reason)
        return History(files=history.files, unreadable=(), newly_failing=(), slowed=(), failing=())
    found = [it.model_dump(mode="json") for it in (*history.newly_failing, *history.slowed, *history.failing)]
    gathered.ran(JUNITPARSER, ["history", *history.files], started, found)
    gathered.measured(_OF_TESTS, (len(history.newly_failing), len(history.slowed)))
    return history


def _files(ctx: StepContext, workspace: Workspace, option: str, patterns: Sequence[str]) -> list[str]:
    try:
        found = matching(workspace.project, patterns)
    except ValueError as error:
        raise InvalidInput(f"options.{option}", str(error)) from error
    return [path for path in found if is_about(ctx.item, path)]


async def _unknown_before(ctx: StepContext, templates: Sequence[Template]) -> list[str]:
    last = await ctx.last()
    try:
        before = ProductionDetails.model_validate(last.measured.details) if last else None
    except ValidationError:
        return []  # the sum of an expansion's items
    if before is None or not before.templates:
        return []
    known = {template.id for template in before.templates}
    return sorted(template.id for template in templates[:_LISTED] if template.id not in known)


def _listed(
    templates: Sequence[Template], anomalies: Sequence[Anomaly], changes: Sequence[ChangePoint]
) -> list[Template]:
    """The first ones, and those that anything is said of."""
    named = {it.series for it in (*anomalies, *changes)}
    return [it for n, it in enumerate(templates) if n < _LISTED or it.id in named or it.new]


def _issues(details: ProductionDetails) -> list[Issue]:
    by_id = {template.id: template for template in details.templates}

    def issue(found: Anomaly | ChangePoint, rule: str, message: str) -> Issue:
        template = by_id.get(found.series)
        return Issue(
            id=found.id,
            tool=LOGS.name,
            rule=rule,
            severity="medium" if found.series == "errors" or (template and template.errors) else "low",
            message=f"{template.text if template else found.series}: {message}"[:500],
            path=template.path if template else None,
            line=template.line if template else None,
        )

    return [
        *(
            issue(
                it,
                "anomaly",
                f"{it.observed} events from {it.begins} to {it.ends}, where {it.expected:g} are expected "
                f"(p = {it.p:.2g})",
            )
            for it in details.anomalies
        ),
        *(
            issue(
                it,
                "rate-change",
                f"from {it.before:g} to {it.after:g} events in {details.bucket_s} s at {it.at} "
                f"(p <= {it.p:.2g})",
            )
            for it in details.change_points
        ),
        *(
            Issue(
                id=it.id,
                tool=LOGS.name,
                rule="incident",
                severity="medium",
                message=f"{it.exception} out of {it.function}, {it.events} times: {it.message}"[:500],
                path=it.path,
                line=it.line,
            )
            for it in details.incidents
        ),
        *(
            Issue(
                id=it.test,
                tool=JUNITPARSER.name,
                rule="newly-failing",
                severity="high",
                message=f"{it.test} failed in {it.failing_runs} runs, after {it.passing_runs} that passed",
            )
            for it in details.newly_failing
        ),
        *(
            Issue(
                id=f"slowed@{it.test}",
                tool=JUNITPARSER.name,
                rule="slowed-test",
                severity="low",
                message=f"{it.test} takes {it.after_s:g} s, after {it.before_s:g} s before (z = {it.z:g})",
            )
            for it in details.slowed
        ),
    ]


def _evidence(details: ProductionDetails) -> dict[str, object] | None:
    """What a model is told: each thing with its id, and the templates that they are about."""
    anomalies, changes = details.anomalies[:_JUDGED], details.change_points[:_JUDGED]
    tests = details.newly_failing[:_JUDGED]
    new = [it for it in details.templates if it.new][:_JUDGED]
    if not (anomalies or changes or tests or new or details.incidents):
        return None
    named = {it.series for it in (*anomalies, *changes)} | {it.id for it in new}
    keep = {"id", "text", "path", "line", "new"}
    return {
        "anomalies": [it.model_dump(mode="json") for it in anomalies],
        "changes": [it.model_dump(mode="json") for it in changes],
        "templates": [it.model_dump(mode="json", include=keep) for it in details.templates if it.id in named],
        "incidents": [it.model_dump(mode="json") for it in details.incidents[:_JUDGED]],
        "newly_failing": [it.model_dump(mode="json") for it in tests],
    }


def _headline(metrics: dict[str, Metric]) -> str:
    said = {
        "production.lines": "{:.0f} lines",
        "production.templates": "{:.0f} templates",
        _ERROR_RATE: "{:.2f} % errors",
        "production.anomalies": "{:.0f} anomalies",
        "production.change_points": "{:.0f} changed rates",
        "production.newly_failing_tests": "{:.0f} newly failing tests",
        "production.slowed_tests": "{:.0f} slowed tests",
    }
    measured = [
        text.format(metric.value)
        for name, text in said.items()
        if isinstance(metric := metrics[name], Measured)
    ]
    return ", ".join(measured) or "neither logs nor a history of JUnit reports could be read"


PRODUCTION_INTELLIGENCE = Agent(
    id="production-intelligence",
    title="production-intelligence",
    purpose="Finds anomalies and changed rates in logs, and tests that fail or slow down over their history.",
    tier="complex",
    tools=(LOGS.name, JUNITPARSER.name, "pytest"),
    measures=(
        *(
            Measure(name, unit, additive=name == "production.lines")
            for name, unit in {**_OF_LINES, **_OF_RATES, **_OF_TESTS}.items()
        ),
        Measure(_ERROR_RATE, "percent"),
        Measure(_INCIDENTS, "incidents"),
        Measure(REPRODUCED, "incidents"),
    ),
    options=ProductionIntelligenceOptions,
    measure=_measure,
    judgement=Judgement(prompt="production-intelligence", response=ProductionJudgement),
    loop=IncidentScenarios(),
    memory_key="production/anomalies",
    memory_reads=("notes/*",),
)
