"""performance-tester: puts load on a system and times benchmarks; a model says where the time may go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue, Severity, numbered
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.performance import Benchmark, HotFunction, PathLoad, PerformanceDetails
from qefleet.contracts.runs import AgentResult, Limit
from qefleet.contracts.steps import Finding
from qefleet.tools.ground import Ground
from qefleet.tools.hosts import allowed_origin
from qefleet.tools.systems.benchmarks import (
    REPORT,
    Timings,
    benchmark_files,
    compare,
    last_timings,
    run_benchmarks,
)
from qefleet.tools.systems.load import LOCUST, Load, Loaded, load_origin, load_system

_PROFILED_S = 5
_JUDGED = 20
_LISTED = 100
_MUCH, _MOST = 20, 50
_SHARES = ("half or more", "a fifth or more", "less than a fifth")

_LOAD_METRICS = {
    "performance.p50_ms": "ms",
    "performance.p95_ms": "ms",
    "performance.p99_ms": "ms",
    "performance.rps": "requests/s",
    "performance.error_percent": "percent",
}


class LoadedPath(Model):
    """What some of the requests ask for; a bare string is the path of a GET."""

    path: Annotated[str, StringConstraints(pattern=r"^/([^/\s#][^\s#]*)?$", max_length=2000)]
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    body: Any = None
    """Sent as JSON."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class LoadThresholds(Model):
    """What each path must keep to; null asks for nothing."""

    p95_ms: Annotated[float, Field(gt=0)] | None = None
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    error_percent: Annotated[float, Field(ge=0, le=100)] | None = 1.0


class PerformanceTesterOptions(Model):
    """What is put under load, and how; benchmarks are found in the suite."""

    command: list[str] = []
    """Starts the system in the sandbox, in the project's folder, without network; `{python}` stands for the
    interpreter of the project's environment."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """On which that system listens at 127.0.0.1."""
    url: Annotated[str, Field(max_length=2000)] | None = None
    """Origin of a system that runs elsewhere; its host must be in the worker's `QE_ALLOWED_HOSTS`."""
    paths: Annotated[list[LoadedPath], Field(min_length=1, max_length=200)] = [LoadedPath(path="/")]
    users: Annotated[int, Field(ge=1, le=1000)] = 5
    spawn_rate: Annotated[float, Field(gt=0, le=1000)] = 10.0
    duration_s: Annotated[int, Field(ge=1, le=3600)] = 10
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.1
    """What each user waits between an answer and the next request."""
    request_timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0
    ready_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long the system may take until it takes connections."""
    thresholds: LoadThresholds = LoadThresholds()
    profile: bool = True
    """Where a threshold is exceeded, put load on it once more and look at the functions that it is in."""
    benchmarks: bool = True
    regression_percent: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """By how much a benchmark's median may grow from run to run."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0
    """For a run of the benchmarks."""

    @model_validator(mode="after")
    def _of_one_system(self) -> Self:
        if self.command and self.url is not None:
            raise ValueError("give command or url, not both")
        return self


class Bottleneck(BaseModel):
    """Where the time may go."""

    about: Citation
    hypothesis: str
    check: str
    """How a developer could tell that it is so."""


class BottleneckJudgement(BaseModel):
    """The model's part: what may be behind what is too slow or fails."""

    bottlenecks: list[Bottleneck]


@dataclass(frozen=True)
class _Part:
    """What one kind of measuring gave."""

    metrics: dict[str, Metric]
    details: dict[str, Any]
    tools: list[ToolRun]
    artifacts: list[tuple[ArtifactRef, bytes]]
    issues: list[Issue]
    headline: str


async def _measure(ctx: StepContext) -> Finding:
    options: PerformanceTesterOptions = ctx.options
    origin = None
    if options.url is not None:
        origin = allowed_origin(options.url, ctx.allowed_hosts, field="options.url")
    last = await ctx.last()
    parts: list[_Part] = []
    async with ctx.workspace() as workspace:
        if options.command or origin:
            parts.append(await _load(workspace, options, origin, last))
        files = benchmark_files(workspace.project) if options.benchmarks else []
        if files:
            tool = sum(len(part.tools) for part in parts)
            before = last_timings(await _last_report(ctx, last))
            parts.append(await _benchmarks(workspace, options, files, before, tool))
    if not parts:
        headline = "nothing to measure: no command or url is given, and the suite has no benchmarks"
        return Finding(measurement=Measurement(), headline=headline)
    found = {name: value for part in parts for name, value in part.details.items()}
    issues = numbered(issue for part in parts for issue in part.issues)
    details = PerformanceDetails.model_validate({**found, "issues": issues})
    evidence = _evidence(details)
    return Finding(
        measurement=Measurement(
            metrics={name: metric for part in parts for name, metric in part.metrics.items()},
            tools=[tool for part in parts for tool in part.tools],
            details=details.model_dump(mode="json"),
        ),
        headline="; ".join(part.headline for part in parts),
        artifacts=await keep_all(ctx.artifacts, [it for part in parts for it in part.artifacts]),
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
    )


async def _load(
    ground: Ground, options: PerformanceTesterOptions, origin: str | None, last: AgentResult | None
) -> _Part:
    load = Load(
        paths=[path.model_dump(mode="json") for path in options.paths],
        users=options.users,
        spawn_rate=options.spawn_rate,
        duration_s=options.duration_s,
        wait_s=options.wait_s,
        request_timeout_s=options.request_timeout_s,
    )
    loaded = await _loaded(ground, options, origin, load)
    report = loaded.report
    tools = [report.run] if report.run else []
    if report.value is None:
        unmeasured = dict.fromkeys([*_LOAD_METRICS, "performance.over_threshold"], report.reason)
        return _Part(
            metrics={name: Unmeasured(reason=reason) for name, reason in unmeasured.items()},
            details={},
            tools=tools,
            artifacts=list(report.artifacts),
            issues=[],
            headline=f"load was not measured: {report.reason}",
        )
    *paths, total = (_held_against(path, options.thresholds) for path in report.value)
    over = sum(len(path.over) for path in paths)
    artifacts, profile = list(report.artifacts), list[HotFunction]()
    if over and options.profile and not origin:
        shorter = replace(load, duration_s=min(_PROFILED_S, load.duration_s))
        again = await _loaded(ground, options, None, shorter, profile=True)
        profile = again.profile
        tools += [again.report.run] if again.report.run else []
        artifacts += again.report.artifacts
    metrics: dict[str, Metric] = {
        name: Measured(value=getattr(total, name.partition(".")[2]), unit=unit, tool=0)
        for name, unit in _LOAD_METRICS.items()
    }
    metrics["performance.over_threshold"] = _over(options, paths, over)
    before = {
        name: value for name in _LOAD_METRICS if last and (value := last.measured.value(name)) is not None
    }
    return _Part(
        metrics=metrics,
        details={"total": total, "paths": paths, "before": before, "profile": profile},
        tools=tools,
        artifacts=artifacts,
        issues=[_too_much(path, name, options.thresholds) for path in paths for name in path.over],
        headline=_load_headline(total, paths),
    )


async def _loaded(
    ground: Ground,
    options: PerformanceTesterOptions,
    origin: str | None,
    load: Load,
    *,
    profile: bool = False,
) -> Loaded:
    if origin:
        return await load_origin(origin, load)
    return await load_system(
        ground, options.command, options.port, load, ready_s=options.ready_s, profile=profile
    )


def _held_against(path: PathLoad, thresholds: LoadThresholds) -> PathLoad:
    over = [
        name
        for name in LoadThresholds.model_fields
        if (limit := getattr(thresholds, name)) is not None and getattr(path, name) > limit
    ]
    return path.model_copy(update={"over": over})


def _over(options: PerformanceTesterOptions, paths: list[PathLoad], over: int) -> Metric:
    """Thresholds that were exceeded, over all paths; unknown where one of them was never asked for."""
    unasked = {f"{path.method} {path.path}" for path in options.paths} - {path.id for path in paths}
    if unasked:
        names = ", ".join(sorted(unasked)[:3])
        return Unmeasured(reason=f"no request was sent to {names}: give more time, users or weight")
    return Measured(value=over, unit="thresholds", tool=0)


def _too_much(path: PathLoad, name: str, thresholds: LoadThresholds) -> Issue:
    severity: Severity = "high" if name == "error_percent" else "medium"
    return Issue(
        id=f"{name} of {path.id}",
        tool="locust",
        rule=name,
        severity=severity,
        message=f"{path.id}: {name} is {getattr(path, name):g} under load, "
        f"at most {getattr(thresholds, name):g} asked",
    )


def _load_headline(total: PathLoad, paths: list[PathLoad]) -> str:
    text = f"p95 {total.p95_ms:g} ms at {total.rps:.0f} requests/s, {total.error_percent:.3g} % errors"
    if over := [path.id for path in paths if path.over]:
        text += f"; over threshold: {over[0]}" + (f" and {len(over) - 1} more" if len(over) > 1 else "")
    return text


async def _last_report(ctx: StepContext, last: AgentResult | None) -> bytes | None:
    kept = [artifact for artifact in (last.artifacts if last else []) if artifact.name == REPORT]
    return await ctx.artifacts.get(kept[0].digest) if kept else None


async def _benchmarks(
    ground: Ground, options: PerformanceTesterOptions, files: list[str], before: Timings | None, tool: int
) -> _Part:
    """Time benchmarks; those that seem slower than before are timed once more, and the better time counts."""
    report = await run_benchmarks(ground, files, timeout_s=options.timeout_s)
    tools = [report.run] if report.run else []
    artifacts = list(report.artifacts)
    if report.value is None:
        unknown = Unmeasured(reason=report.reason)
        return _Part(
            metrics={"performance.benchmarks": unknown, "performance.regressions": unknown},
            details={},
            tools=tools,
            artifacts=artifacts,
            issues=[],
            headline=f"benchmarks were not measured: {report.reason}",
        )
    benchmarks = compare(report.value, before, percent=options.regression_percent)
    if slower := [benchmark.id for benchmark in benchmarks if benchmark.regressed]:
        again = await run_benchmarks(ground, slower, timeout_s=options.timeout_s)
        tools += [again.run] if again.run else []
        artifacts += [
            (ref.model_copy(update={"name": f"again-{ref.name}"}), it) for ref, it in again.artifacts
        ]
        if again.value:
            second = compare(again.value, before, percent=options.regression_percent)
            benchmarks = _better(benchmarks, second)
    regressed = [benchmark for benchmark in benchmarks if benchmark.regressed]
    metrics: dict[str, Metric] = {
        "performance.benchmarks": Measured(value=len(benchmarks), unit="benchmarks", tool=tool)
    }
    if any(benchmark.before_ms is not None for benchmark in benchmarks):
        metrics["performance.regressions"] = Measured(value=len(regressed), unit="benchmarks", tool=tool)
    return _Part(
        metrics=metrics,
        details={"benchmarks": benchmarks[:_LISTED]},
        tools=tools,
        artifacts=artifacts,
        issues=[_regression(benchmark) for benchmark in regressed],
        headline=_benchmark_headline(benchmarks),
    )


def _better(first: list[Benchmark], second: list[Benchmark]) -> list[Benchmark]:
    again = {benchmark.id: benchmark for benchmark in second}
    return [min(it, again.get(it.id, it), key=lambda timed: timed.median_ms) for it in first]


def _regression(benchmark: Benchmark) -> Issue:
    return Issue(
        id=benchmark.id,
        tool="pytest-benchmark",
        rule="regression",
        severity="medium",
        message=f"{benchmark.id}: its median is {benchmark.median_ms:.4g} ms, "
        f"{benchmark.before_ms or 0:.4g} ms in the run before",
        path=benchmark.id.partition("::")[0],
    )


def _benchmark_headline(benchmarks: list[Benchmark]) -> str:
    if all(benchmark.before_ms is None for benchmark in benchmarks):
        return f"{len(benchmarks)} benchmarks timed, no earlier run to compare with"
    regressed = [benchmark.id for benchmark in benchmarks if benchmark.regressed]
    text = f"{len(regressed)} of {len(benchmarks)} benchmarks slower than before"
    return f"{text}: {regressed[0]}" if regressed else text


def _evidence(details: PerformanceDetails) -> list[dict[str, str]]:
    """What is over its threshold or slower, and the functions that the time may be in; sizes in words only.

    Times differ from run to run: they would make a new question of the same findings.
    """
    if not details.issues:
        return []
    found = [{"id": issue.id, "kind": issue.rule} for issue in details.issues]
    busy = [
        {"id": it.id, "kind": "function under load", "share": _share(it.share_percent)}
        for it in details.profile
    ]
    return [*found[:_JUDGED], *sorted(busy, key=lambda it: (_SHARES.index(it["share"]), it["id"]))[:5]]


def _share(percent: float) -> str:
    return _SHARES[(percent < _MOST) + (percent < _MUCH)]


PERFORMANCE_TESTER = Agent(
    id="performance-tester",
    title="performance-tester",
    purpose="Puts load on a system that you name, times the suite's benchmarks, and finds what got too slow.",
    tier="moderate",
    tools=(LOCUST, "pytest"),
    measures=(
        *(Measure(name, unit) for name, unit in _LOAD_METRICS.items()),
        Measure("performance.over_threshold", "thresholds", limit=Limit(max=0, severity="soft")),
        Measure("performance.benchmarks", "benchmarks"),
        Measure("performance.regressions", "benchmarks", limit=Limit(max=0, severity="soft")),
    ),
    options=PerformanceTesterOptions,
    measure=_measure,
    judgement=Judgement(prompt="performance-tester", response=BottleneckJudgement),
    memory_key="performance/results",
    memory_reads=("notes/*",),
)
