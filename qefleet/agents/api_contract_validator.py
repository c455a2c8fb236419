"""api-contract-validator: what breaks for those who use the project; a model says what they do about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import is_about
from qefleet.contracts.api import ApiDetails, Baseline, Failure, Surface
from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue, Severity, numbered
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.tools.apis.api_changes import (
    GRIFFE,
    OPENAPI,
    Api,
    announced,
    is_breaking,
    openapi,
    packages,
    python_api,
    read_back,
    specs,
    version_of,
)
from qefleet.tools.apis.contract_tests import SCHEMATHESIS, Plan, Tested, ask_application, ask_host
from qefleet.tools.ground import Ground
from qefleet.tools.hosts import allowed_origin
from qefleet.tools.program import ToolReport

_LISTED = 200
_FAILURES = 100
_JUDGED = 20


class ApiContractValidatorOptions(Model):
    """What to look at, and what to send requests to: at most one of `app`, `command` and `url`."""

    specs: Annotated[list[str], Field(max_length=50)] = []
    """Paths or patterns of OpenAPI descriptions in the project; those with the usual names without it."""
    app: Annotated[str, StringConstraints(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    """`module:name` of an ASGI or WSGI application in the project."""
    command: Annotated[list[str], Field(max_length=50)] = []
    """Starts the project's server in the sandbox, on the port that takes the place of `PORT`."""
    url: str | None = None
    """Origin of a server whose host is in `QE_ALLOWED_HOSTS`."""
    description: Annotated[str, StringConstraints(min_length=1, max_length=500)] = "/openapi.json"
    """What requests are made from: a path on the server; without a slash before it, a file in the project."""
    max_examples: Annotated[int, Field(ge=1, le=1000)] = 20
    """Requests generated for each operation."""
    seed: int = 0
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if sum(map(bool, (self.app, self.command, self.url))) > 1:
            raise ValueError("give one of app, command and url")
        return self


class MigrationNote(BaseModel):
    """What one finding means to a consumer."""

    issue: Citation
    impact: str
    migration: str


class ApiJudgement(BaseModel):
    """The model's part: consumer impact, and what consumers do about it."""

    summary: str
    notes: list[MigrationNote]


@dataclass
class _Found:
    """What the tools gave so far."""

    metrics: dict[str, Metric] = field(default_factory=dict[str, Metric])
    tools: list[ToolRun] = field(default_factory=list[ToolRun])
    files: list[tuple[ArtifactRef, bytes]] = field(default_factory=list[tuple[ArtifactRef, bytes]])
    issues: list[Issue] = field(default_factory=list[Issue])
    notes: list[str] = field(default_factory=list[str])
    not_compared: list[str] = field(default_factory=list[str])

    def add(self, report: ToolReport[Api] | ToolReport[Tested]) -> int:
        """Keep a tool's run; the index of it."""
        self.tools += [report.run] if report.run else []
        self.files += report.artifacts
        return len(self.tools) - 1


@dataclass(frozen=True)
class _Before:
    """An earlier version of what is promised; why there is none where it should be there."""

    content: bytes | None = None
    version: str | None = None
    baseline: Baseline | None = None
    reason: str = ""

    @property
    def empty(self) -> bool:
        """There is no earlier version, or it promised nothing."""
        return self.content in {None, b"{}"} and not self.reason


async def _measure(ctx: StepContext) -> Finding:
    options: ApiContractValidatorOptions = ctx.options
    origin = allowed_origin(options.url, ctx.allowed_hosts, field="options.url") if options.url else None
    found = _Found()
    async with AsyncExitStack() as opened:
        workspace = await opened.enter_async_context(ctx.workspace())
        base = await opened.enter_async_context(ctx.base_workspace()) if ctx.base_workspace else None
        python = await _python(ctx, workspace, base, found)
        described = await _described(ctx, workspace, base, found)
        tested = await _tested(ctx, workspace, base, origin, found)
    _sum_up(found, python, described)
    issues = numbered(found.issues)
    details = ApiDetails(
        issues=issues[:_LISTED],
        python=python,
        openapi=described,
        not_compared=found.not_compared[:_LISTED],
        failures=[failure for _, failure in tested.failures[:_FAILURES]] if tested else [],
        tested=options.app or " ".join(options.command) or origin,
    )
    return Finding(
        measurement=Measurement(
            metrics=found.metrics, tools=found.tools, details=details.model_dump(mode="json")
        ),
        headline=_headline(found.metrics, [python, described], tested),
        artifacts=await keep_all(ctx.artifacts, found.files),
        notes=found.notes,
        evidence=await keep_evidence(ctx.artifacts, _evidence(issues)) if issues else None,
    )


async def _python(ctx: StepContext, ground: Ground, base: Ground | None, found: _Found) -> Surface | None:
    """The Python API, in the project and in what it is held against."""
    names = packages(ground.project)
    before = await _before(ctx, base, "python", found)
    if not names and before.empty:
        found.notes.append("no package or module of the project was found, so it has no Python API")
        return None
    report = await python_api(ground, before.content)
    tool = found.add(report)
    found.metrics["contracts.python_objects"] = report.metric(lambda api: api.size, unit="objects", tool=tool)
    _count(ctx, found, "contracts.python_breaking", report, before=before, tool=tool)
    return _surface(names, version_of(ground.project), before)


async def _described(ctx: StepContext, ground: Ground, base: Ground | None, found: _Found) -> Surface | None:
    """The OpenAPI descriptions, in the project and in what they are held against."""
    options: ApiContractValidatorOptions = ctx.options
    paths = specs(ground.project, options.specs)
    before = await _before(ctx, base, "openapi", found)
    if not paths and before.empty and ctx.changes is None:
        return None
    report = await openapi(ground, paths, before.content)
    tool = found.add(report)
    found.metrics["contracts.operations"] = report.metric(lambda api: api.size, unit="operations", tool=tool)
    _count(ctx, found, "contracts.openapi_breaking", report, before=before, tool=tool)
    if report.value:
        found.not_compared += report.value.not_compared
        found.notes += [f"not read: {reason}" for reason in report.value.unreadable]
    return _surface(paths, report.value.version if report.value else None, before)


async def _before(
    ctx: StepContext, base: Ground | None, kind: Literal["python", "openapi"], found: _Found
) -> _Before:
    """The base's in diff mode; else what this agent kept the last time."""
    if ctx.changes is None:
        return await _kept(ctx, kind)
    if base is None:
        return _Before(b"{}", None, "base")
    options: ApiContractValidatorOptions = ctx.options
    if kind == "python":
        report = await python_api(base) if packages(base.project) else None
        version = version_of(base.project)
    else:
        paths = specs(base.project, options.specs)
        report = await openapi(base, paths) if paths else None
        version = report.value.version if report and report.value else None
    if report is None:
        return _Before(b"{}", None, "base")
    found.add(report)
    if report.value is None:
        return _Before(baseline="base", reason=f"of the base: {report.reason}")
    return _Before(report.value.content, version, "base")


async def _kept(ctx: StepContext, kind: Literal["python", "openapi"]) -> _Before:
    """What the latest report of this agent has."""
    last = await ctx.last()
    name = {"python": GRIFFE, "openapi": OPENAPI}[kind].name
    kept = [
        run.artifact for run in (last.measured.tools if last else ()) if run.tool == name and run.artifact
    ]
    content = read_back(await ctx.artifacts.get(kept[-1].digest)) if kept else None
    if last is None or content is None:
        return _Before()
    surface: dict[str, Any] = last.measured.details.get(kind) or {}
    return _Before(content, surface.get("version"), "last run")


def _surface(names: Sequence[str], version: str | None, before: _Before) -> Surface:
    return Surface(
        names=list(names),
        version=version,
        version_before=before.version,
        baseline=before.baseline,
        announced=announced(before.version, version),
    )


def _count(
    ctx: StepContext, found: _Found, name: str, report: ToolReport[Api], *, before: _Before, tool: int
) -> None:
    """Breaking changes, where there is something to hold the API against."""
    if before.reason or (report.value is None and before.content is not None):
        found.metrics[name] = Unmeasured(reason=before.reason or report.reason)
    elif before.content is not None and report.value is not None:
        about = [issue for issue in report.value.changes if not issue.path or is_about(ctx.item, issue.path)]
        found.issues += about
        found.metrics[name] = Measured(value=sum(map(is_breaking, about)), unit="changes", tool=tool)


async def _tested(
    ctx: StepContext, ground: Ground, base: Ground | None, origin: str | None, found: _Found
) -> Tested | None:
    """What came of requests, where there is something to send them to."""
    options: ApiContractValidatorOptions = ctx.options
    if not (options.app or options.command or origin):
        return None
    plan = Plan(
        description=options.description,
        max_examples=options.max_examples,
        seed=options.seed,
        timeout_s=options.timeout_s,
    )
    known: set[tuple[str, str]] = set()
    if origin:
        report = await ask_host(plan, origin=origin, project=ground.project)
    else:
        known = await _known_failures(options, plan, base, found)
        report = await ask_application(ground, plan, app=options.app, command=options.command)
    tool = found.add(report)
    numbers: dict[str, tuple[str, Callable[[Tested], int]]] = {
        "operations_described": ("operations", lambda tested: tested.operations),
        "operations_tested": ("operations", lambda tested: tested.tested),
        "requests": ("requests", lambda tested: tested.requests),
        "failures": ("failures", lambda tested: len(tested.failures)),
        "server_errors": ("operations", lambda tested: tested.server_errors),
    }
    if ctx.changes is not None:
        numbers["failures_new"] = ("failures", lambda tested: len(_kinds(tested) - known))
    for name, (unit, number) in numbers.items():
        found.metrics[f"contracts.{name}"] = report.metric(number, unit=unit, tool=tool)
    if report.value is None:
        return None
    found.issues += [_failed(severity, failure, known) for severity, failure in report.value.failures]
    return report.value


async def _known_failures(
    options: ApiContractValidatorOptions, plan: Plan, base: Ground | None, found: _Found
) -> set[tuple[str, str]]:
    """In diff mode: what the base answers wrongly too; nothing where it doesn't even start."""
    if base is None:
        return set()
    report = await ask_application(base, plan, app=options.app, command=options.command)
    if report.value is None:
        found.notes.append(f"no failure is known from the base: {report.reason}")
        return set()
    found.add(report)
    return _kinds(report.value)


def _kinds(tested: Tested) -> set[tuple[str, str]]:
    return {(failure.operation, failure.check) for _, failure in tested.failures}


def _failed(severity: Severity, failure: Failure, known: Collection[tuple[str, str]]) -> Issue:
    code = failure.check.partition(" ")[0]
    return Issue(
        id=f"{code}@{failure.operation}",
        tool=SCHEMATHESIS.name,
        rule=code,
        severity=severity,
        message=f"{failure.operation}: {failure.check}: {failure.message} (shown by {failure.example})",
        known=(failure.operation, failure.check) in known,
    )


def _sum_up(found: _Found, python: Surface | None, described: Surface | None) -> None:
    """All breaking changes, and those that no version announces."""
    parts = {"contracts.python_breaking": python, "contracts.openapi_breaking": described}
    counted = [(metric, parts[name]) for name in parts if (metric := found.metrics.get(name))]
    reasons = [metric.reason for metric, _ in counted if isinstance(metric, Unmeasured)]
    known = [(metric, surface) for metric, surface in counted if isinstance(metric, Measured)]
    unannounced = [(metric, surface) for metric, surface in known if not (surface and surface.announced)]
    for name, some in (("breaking_changes", known), ("unannounced_breaking", unannounced)):
        if reasons:
            found.metrics[f"contracts.{name}"] = Unmeasured(reason="; ".join(reasons))
        elif known:
            found.metrics[f"contracts.{name}"] = Measured(
                value=sum(metric.value for metric, _ in some), unit="changes", tool=known[-1][0].tool
            )


def _evidence(issues: Sequence[Issue]) -> list[dict[str, str]]:
    return [
        {
            "id": issue.id,
            "severity": issue.severity,
            "message": issue.message[:500],
            **({"place": f"{issue.path}:{issue.line}" if issue.line else issue.path} if issue.path else {}),
        }
        for issue in issues[:_JUDGED]
    ]


def _headline(
    metrics: Mapping[str, Metric], surfaces: Sequence[Surface | None], tested: Tested | None
) -> str:
    breaking = metrics.get("contracts.breaking_changes")
    if isinstance(breaking, Measured):
        since = next(surface.baseline for surface in surfaces if surface and surface.baseline)
        said = f"{breaking.value:g} breaking changes since the {since}"
    elif breaking:
        said = "breaking changes were not measured"
    elif any(surfaces):
        said = "the API is kept for the next run to be held against: there is nothing earlier"
    else:
        said = "neither a package nor an OpenAPI description was found"
    if tested:
        said += (
            f"; {len(tested.failures)} failures in {tested.requests} requests "
            f"to {tested.tested} of {tested.operations} operations"
        )
    elif "contracts.failures" in metrics:
        said += "; the API's answers were not measured"
    return said


API_CONTRACT_VALIDATOR = Agent(
    id="api-contract-validator",
    title="api-contract-validator",
    purpose="Finds what breaks those who use the project: Python API, OpenAPI description, real answers.",
    tier="moderate",
    tools=(GRIFFE, OPENAPI, SCHEMATHESIS),
    measures=(
        Measure("contracts.breaking_changes", "changes"),
        # Soft: taking something away can be meant, and then a person says so or the version does. Only of a
        # diff, since elsewhere the base is whatever the last run happened to see.
        Measure(
            "contracts.unannounced_breaking", "changes", limit=Limit(max=0, severity="soft"), of_diff=True
        ),
        Measure("contracts.python_breaking", "changes"),
        Measure("contracts.openapi_breaking", "changes"),
        Measure("contracts.python_objects", "objects"),
        Measure("contracts.operations", "operations"),
        Measure("contracts.operations_described", "operations"),
        Measure("contracts.operations_tested", "operations"),
        Measure("contracts.requests", "requests"),
        Measure("contracts.failures", "failures"),
        Measure("contracts.failures_new", "failures", of_diff=True),
        Measure("contracts.server_errors", "operations"),
    ),
    options=ApiContractValidatorOptions,
    measure=_measure,
    judgement=Judgement(prompt="api-contract-validator", response=ApiJudgement),
    memory_key="api/contracts",
    memory_reads=("notes/*",),
)
