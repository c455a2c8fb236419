"""Experiments on a system in the sandbox: faults by our own proxy and by signals, judged by probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from qefleet.contracts.chaos import ExperimentResult, Fault, Phase, PhaseFigures, Record, Sample, Span
from qefleet.tools.ground import Ground, program_source, run_program
from qefleet.tools.program import Tool, ToolReport, read_report
from qefleet.workspace.sandbox import Limits

PROXY = Tool(name="qe_chaos", distribution="qefleet")

_RECORDS = TypeAdapter(list[Record])
_LISTED_SPANS = 60
_SPARE_S = 30.0


async def run_experiments(ground: Ground, spec: Mapping[str, Any]) -> ToolReport[list[Record]]:
    """Run experiments one after the other in one run of the sandbox, each on a system started anew.

    Args:
        ground: The project's workspace.
        spec: `services`, `probes`, `experiments` and the times, as `qe_chaos` reads them; `{python}` in a
            command stands for the target's interpreter.
    """
    services = {
        name: {**service, "command": [part.replace("{python}", ground.python) for part in service["command"]]}
        for name, service in spec["services"].items()
    }
    limit_s = _limit_s(spec)
    outcome = await run_program(
        ground,
        "qe_chaos",
        {**spec, "services": services},
        files={"/qe/qe_system.py": program_source("qe_system")},
        collect=["chaos.json"],
        limits=replace(Limits(), wall_s=limit_s, cpu_s=limit_s),
        tools=True,
    )
    return read_report(
        PROXY,
        PROXY.version() or "unknown",
        argv=outcome.finished.argv,
        finished=outcome.finished,
        content=outcome.outputs.get("chaos.json"),
        read=_RECORDS.validate_json,
        name="chaos.json",
    )


def _limit_s(spec: Mapping[str, Any]) -> float:
    """Wall time after which all experiments must have ended, each of its waits at its longest."""
    each = spec["before_s"] + spec["recovery_max_s"] + sum(it["ready_s"] for it in spec["services"].values())
    each += 10 * max(probe["timeout_s"] for probe in spec["probes"])
    return _SPARE_S + sum(each + it["duration_s"] for it in spec["experiments"])


def result_of(record: Record, fault: Fault, service: str, *, tolerated_percent: float) -> ExperimentResult:
    """What a record says.

    Args:
        record: What was seen.
        fault: What was done.
        service: To which service.
        tolerated_percent: Share of the probes' requests that may fail while a steady state still holds.
    """
    result = ExperimentResult(
        id=record.id, fault=fault, service=service, timeline=list(_timeline(record.samples))[:_LISTED_SPANS]
    )
    before = _of(record.samples, "before")
    if record.why:
        return result.model_copy(update={"why_not": record.why})
    during = _of(record.samples, "during")
    if not during:
        wrong = next((sample.wrong for sample in reversed(before) if sample.wrong), "too few probes")
        why = f"there was no steady state before the fault: {wrong}"
        return result.model_copy(update={"why_not": why, "before": _figures(before)})
    failed = [sample for sample in during if sample.wrong]
    share = 100 * len(failed) / len(during)
    return result.model_copy(
        update={
            "before": _figures(before),
            "during": _figures(during),
            "after": _figures(_of(record.samples, "after")),
            "held": share <= tolerated_percent,
            "recovered": record.steady_again,
            "recovery_s": _recovery_s(record) if record.steady_again else None,
            "stopped": record.stopped,
            "blast_radius_percent": share,
            "blast_radius": sorted({sample.probe for sample in failed}),
        }
    )


def _recovery_s(record: Record) -> float:
    """From when it could recover to the first good answer after the last bad one; 0 where none was bad."""
    later = sorted((it for it in record.samples if it.t_s >= record.healed_s), key=lambda it: it.t_s)
    last_bad = max((it.t_s for it in later if it.wrong), default=None)
    if last_bad is None:
        return 0.0
    good = min(it.t_s + it.ms / 1000 for it in later if it.t_s > last_bad)
    return good - record.healed_s


def _of(samples: Sequence[Sample], phase: Phase) -> list[Sample]:
    return [sample for sample in samples if sample.phase == phase]


def _figures(samples: Sequence[Sample]) -> PhaseFigures:
    good = [sample.ms for sample in samples if not sample.wrong]
    failed = len(samples) - len(good)
    return PhaseFigures(probes=len(samples), failed=failed, median_ms=median(good) if good else None)


def _timeline(samples: Sequence[Sample]) -> Iterator[Span]:
    by_probe = sorted(samples, key=lambda sample: (sample.probe, sample.t_s))
    spans = [list(span) for _, span in groupby(by_probe, key=lambda it: (it.probe, it.phase, it.wrong))]
    for span in sorted(spans, key=lambda it: (it[0].t_s, it[0].probe)):
        first = span[0]
        yield Span(
            phase=first.phase,
            probe=first.probe,
            from_s=first.t_s,
            count=len(span),
            median_ms=median(sample.ms for sample in span),
            wrong=first.wrong,
        )
