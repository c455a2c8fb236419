"""chaos-engineer: does harm to a system that the user names, and measures whether it holds and recovers."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.contracts.base import Model
from qefleet.contracts.chaos import ChaosDetails, ExperimentResult, Fault, Record
from qefleet.contracts.issues import Issue, Severity, numbered
from qefleet.contracts.measured import Measured, Measurement, Metric, Unmeasured
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.tools.systems.chaos import PROXY, result_of, run_experiments

_METRICS = {
    "chaos.experiments": "experiments",
    "chaos.hypotheses_held": "experiments",
    "chaos.recovered": "experiments",
    "chaos.not_recovered": "experiments",
    "chaos.stopped": "experiments",
    "chaos.blast_radius_percent_max": "percent",
    "chaos.recovery_s_max": "s",
}
_JUDGED = 20

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class ChaosService(Model):
    """One process of the system."""

    command: Annotated[list[str], Field(min_length=1)]
    """In the project's folder; `{python}` stands for the interpreter of the project's environment, `{port}`
    for the port that it must listen on."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """On which the others reach it: a proxy of ours listens there, and passes on to `{port}`."""
    env: dict[str, str] = {}
    """Added to its environment; `{port}` as in the command."""
    ready_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long it may take until it takes connections."""

    @model_validator(mode="after")
    def _takes_its_port(self) -> Self:
        if not any("{port}" in part for part in (*self.command, *self.env.values())):
            raise ValueError("put {port} where the service takes its port, in the command or in env")
        return self


class ChaosProbe(Model):
    """A request whose answer shows whether the system is in its steady state."""

    service: Name
    path: Annotated[str, StringConstraints(pattern=r"^/[^\s#]*$", max_length=2000)] = "/"
    status: int = 200
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0

    @property
    def name(self) -> str:
        """Such as `web/health`."""
        return self.service + self.path


class ChaosExperiment(Model):
    """One fault and how the system takes it."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]*$", max_length=64)] = ""
    """Such as `delay-db`, which is its id where none is given."""
    fault: Fault
    service: Name
    """To which it is done."""
    duration_s: Annotated[float, Field(gt=0, le=600)] = 3.0
    delay_ms: Annotated[float, Field(gt=0, le=60_000)] = 100.0
    """For `delay`: before each piece of a request."""
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    """For `reset`: every n-th connection."""
    restart: bool = False
    """For `kill`: the service is started anew after `duration_s`; else the system has to do so itself."""


class ChaosEngineerOptions(Model):
    """The system, what shows that it is well, and what is done to it."""

    services: dict[Name, ChaosService] = {}
    """In the order in which they are started."""
    probes: Annotated[list[ChaosProbe], Field(max_length=20)] = []
    """`GET /` of the last service without them."""
    experiments: Annotated[list[ChaosExperiment], Field(max_length=50)] = []
    """Without them, each service is delayed, and killed and started anew."""
    before_s: Annotated[float, Field(gt=0, le=600)] = 1.0
    """For how long the steady state is looked at before a fault."""
    interval_s: Annotated[float, Field(gt=0, le=60)] = 0.1
    """Between rounds of probes: the resolution of recovery times."""
    recovery_max_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """After which a system that isn't steady again has not recovered."""
    tolerated_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Share of the probes' requests that may fail while a steady state still holds."""
    blast_radius_max_percent: Annotated[float, Field(ge=0, le=100)] = 100.0
    """A fault is ended early once a larger share of the probes' requests has failed; 100 is never."""

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Self:
        named = {*(probe.service for probe in self.probes), *(it.service for it in self.experiments)}
        if unknown := sorted(named - self.services.keys()):
            raise ValueError(f"no such service: {', '.join(unknown)}")
        ids = [it.id for it in self.experiments if it.id]
        if len(ids) != len(set(ids)):
            raise ValueError("two experiments have one id")
        ports = [service.port for service in self.services.values()]
        if len(ports) != len(set(ports)):
            raise ValueError("two services have one port")
        return self


class TestedHypothesis(BaseModel):
    """What an experiment says about the system."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    experiment: Citation
    hypothesis: str
    explanation: str


class ChaosJudgement(BaseModel):
    """The model's part: what was learned, and what to try next."""

    hypotheses: list[TestedHypothesis]
    next_experiment: str
    because_of: Citation


async def _measure(ctx: StepContext) -> Finding:
    options: ChaosEngineerOptions = ctx.options
    if not options.services:
        headline = "no system given: name its services to have experiments done on it"
        return Finding(measurement=Measurement(), headline=headline)
    probes = options.probes or [ChaosProbe(service=list(options.services)[-1])]
    experiments = with_ids(options.experiments or usual_experiments(options, probes))
    async with ctx.workspace() as workspace:
        report = await run_experiments(workspace, _spec(options, probes, experiments))
    tools = [report.run] if report.run else []
    if report.value is None:
        return Finding(
            measurement=Measurement(metrics=_unmeasured(report.reason), tools=tools),
            headline=f"no experiment was measured: {report.reason}",
            artifacts=await keep_all(ctx.artifacts, report.artifacts),
        )
    results = _results(report.value, experiments, options)
    evidence = [_shown(result) for result in results if not result.why_not]
    details = ChaosDetails(experiments=results, issues=numbered(_issues(results)))
    return Finding(
        measurement=Measurement(
            metrics=_metrics(results), tools=tools, details=details.model_dump(mode="json")
        ),
        headline=_headline(results),
        artifacts=await keep_all(ctx.artifacts, report.artifacts),
        evidence=await keep_evidence(ctx.artifacts, evidence[:_JUDGED]) if evidence else None,
    )


def usual_experiments(options: ChaosEngineerOptions, probes: list[ChaosProbe]) -> list[ChaosExperiment]:
    """What any system should take: slowness and restarts of each service, lost connections between them."""
    probed = {probe.service for probe in probes}
    experiments: list[ChaosExperiment] = []
    for name in options.services:
        experiments.append(ChaosExperiment(fault="delay", service=name))
        if name not in probed:
            experiments.append(ChaosExperiment(fault="reset", service=name, every=2))
        experiments.append(ChaosExperiment(fault="kill", service=name, duration_s=1.0, restart=True))
    return experiments


def with_ids(experiments: list[ChaosExperiment]) -> list[ChaosExperiment]:
    """Experiments, those without an id named by what is done to what."""
    taken = {it.id for it in experiments if it.id}
    named: list[ChaosExperiment] = []
    for it in experiments:
        name, ordinal = it.id or f"{it.fault}-{it.service}", 2
        while not it.id and name in taken:
            name, ordinal = f"{it.fault}-{it.service}-{ordinal}", ordinal + 1
        taken.add(name)
        named.append(it.model_copy(update={"id": name}))
    return named


def _spec(
    options: ChaosEngineerOptions, probes: list[ChaosProbe], experiments: list[ChaosExperiment]
) -> dict[str, Any]:
    return {
        "services": {name: service.model_dump() for name, service in options.services.items()},
        "probes": [
            {**probe.model_dump(), "name": probe.name, "port": options.services[probe.service].port}
            for probe in probes
        ],
        "experiments": [it.model_dump() for it in experiments],
        "before_s": options.before_s,
        "interval_s": options.interval_s,
        "recovery_max_s": options.recovery_max_s,
        "blast_radius_max_percent": options.blast_radius_max_percent,
    }


def _results(
    records: list[Record], experiments: list[ChaosExperiment], options: ChaosEngineerOptions
) -> list[ExperimentResult]:
    seen = {record.id: record for record in records}
    return [
        result_of(
            seen.get(it.id) or Record(id=it.id, why="nothing was written down of it"),
            it.fault,
            it.service,
            tolerated_percent=options.tolerated_percent,
        )
        for it in experiments
    ]


def _unmeasured(reason: str) -> dict[str, Metric]:
    return {name: Unmeasured(reason=reason) for name in _METRICS}


def _metrics(results: list[ExperimentResult]) -> dict[str, Metric]:
    """Counts over all experiments; none of them is known where an experiment says nothing."""
    if useless := [result for result in results if result.why_not]:
        return _unmeasured(f"{useless[0].id}: {useless[0].why_not}")
    recovered = [result.recovery_s for result in results if result.recovery_s is not None]
    numbers = {
        "chaos.experiments": len(results),
        "chaos.hypotheses_held": sum(result.held for result in results),
        "chaos.recovered": len(recovered),
        "chaos.not_recovered": len(results) - len(recovered),
        "chaos.stopped": sum(result.stopped for result in results),
        "chaos.blast_radius_percent_max": max(result.blast_radius_percent for result in results),
    }
    metrics: dict[str, Metric] = {
        name: Measured(value=value, unit=_METRICS[name], tool=0) for name, value in numbers.items()
    }
    metrics["chaos.recovery_s_max"] = (
        Measured(value=max(recovered), unit="s", tool=0)
        if len(recovered) == len(results)
        else Unmeasured(reason="the system did not recover from each fault")
    )
    return metrics


def _issues(results: list[ExperimentResult]) -> list[Issue]:
    found: list[Issue] = []
    for result in results:
        what = f"{result.fault} of {result.service}"
        if result.why_not:
            found.append(_issue(result, "no-steady-state", "medium", f"{what}: {result.why_not}"))
        elif not result.recovered:
            found.append(_issue(result, "not-recovered", "high", f"{what}: the system did not recover"))
        elif not result.held:
            text = (
                f"{what}: the steady state did not hold, {result.blast_radius_percent:.0f} % of probes failed"
            )
            found.append(_issue(result, "steady-state", "low", text))
    return found


def _issue(result: ExperimentResult, rule: str, severity: Severity, message: str) -> Issue:
    return Issue(id=result.id, tool=PROXY.name, rule=rule, severity=severity, message=message)


def _shown(result: ExperimentResult) -> dict[str, Any]:
    """An experiment as a model sees it: what happened, without the times of one run."""
    return {
        "id": result.id,
        "fault": result.fault,
        "service": result.service,
        "steady state held": result.held,
        "recovered": result.recovered,
        "failing probes": result.blast_radius,
        "how they failed": sorted({span.wrong for span in result.timeline if span.wrong}),
    }


def _headline(results: list[ExperimentResult]) -> str:
    if useless := [result for result in results if result.why_not]:
        return f"{useless[0].id} says nothing: {useless[0].why_not}"
    held = sum(result.held for result in results)
    text = f"steady state held in {held} of {len(results)} experiments"
    if lost := [result.id for result in results if not result.recovered]:
        return f"{text}; not recovered: {', '.join(lost[:3])}"
    slowest = max(results, key=lambda result: result.recovery_s or 0.0)
    return f"{text}; all recovered, the slowest in {slowest.recovery_s:.1f} s ({slowest.id})"


CHAOS_ENGINEER = Agent(
    id="chaos-engineer",
    title="chaos-engineer",
    purpose="Delays, breaks and kills services of a system that you name, and measures whether it recovers.",
    tier="complex",
    tools=(PROXY.name,),
    measures=tuple(
        Measure(name, unit, limit=Limit(max=0) if name == "chaos.not_recovered" else None)
        for name, unit in _METRICS.items()
    ),
    options=ChaosEngineerOptions,
    measure=_measure,
    judgement=Judgement(prompt="chaos-engineer", response=ChaosJudgement),
    memory_key="chaos/experiments",
    memory_reads=("notes/*",),
)
