"""quality-gate: computes the decision from measurements and thresholds; a model may explain it, no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from qefleet.agents.agent import Agent, Judgement, StepContext
from qefleet.agents.evidence import keep_evidence
from qefleet.agents.measures import COVERAGE, DIFF, FAILED_BEFORE, TESTS
from qefleet.contracts.measured import Measured, Measurement, Metric, ToolRun
from qefleet.contracts.runs import AgentResult, Decision, Limit
from qefleet.contracts.steps import Finding
from qefleet.tools.gate import decide


class GateExplanation(BaseModel):
    """The model's part: the decision in plain words. It has no vote."""

    summary: str
    next_steps: list[str]


async def _measure(ctx: StepContext) -> Finding:
    metrics, tools = _gathered(ctx.completed)
    gate = decide(
        ctx.thresholds,
        metrics,
        failed_steps=_failed_steps(ctx.earlier),
        failed_tools=_failed_tools(ctx.completed),
        diff=ctx.changes is not None,
        limits=_limits(ctx),
    )
    used = {part: metrics[part] for part in metrics if part.startswith(("tests.", "coverage.", "diff."))}
    evidence = [rule.model_dump(mode="json") for rule in gate.rules if not rule.passed]
    return Finding(
        measurement=Measurement(metrics=used, tools=tools, details=gate.model_dump(mode="json")),
        headline=f"{gate.decision.value}: {gate.reason}",
        decision=gate.decision,
        evidence=await keep_evidence(ctx.artifacts, evidence) if gate.decision is not Decision.GO else None,
    )


def _limits(ctx: StepContext) -> dict[str, Limit]:
    """What the agents of the completed steps ask of their own metrics; of an expansion's what is summed.

    An agent that found nothing to measure, such as no system to put load on, leaves its metrics out: then it
    asks for nothing. What it tried and couldn't measure it says so of.
    """
    return {
        measure.name: measure.limit
        for result in ctx.completed
        if result.agent in ctx.catalogue
        for measure in ctx.catalogue.get(result.agent).measures
        if measure.limit
        and measure.name in result.measured.metrics
        and (measure.additive or "items.total" not in result.measured.metrics)
    }


def _failed_tools(results: Sequence[AgentResult]) -> list[str]:
    """Tools whose reports don't count, each once: a gate relays what it was told of."""
    problems = {(run.tool, run.problem) for result in results for run in result.measured.tools if run.problem}
    return sorted(tool for tool, _ in problems)


def _failed_steps(results: Sequence[AgentResult]) -> int:
    """Steps that failed or were cancelled; of an expansion each item that did, and the step for none."""
    counted = 0
    for result in results:
        items = int(result.measured.value("items.failed") or 0)
        counted += items or (result.status in ("failed", "cancelled"))
    return counted


def _gathered(results: Sequence[AgentResult]) -> tuple[dict[str, Metric], list[ToolRun]]:
    """All metrics of completed steps, the latest of each name, with the tool runs that gave them."""
    metrics: dict[str, Metric] = {}
    tools: list[ToolRun] = []
    for result in results:
        offset = len(tools)
        tools += result.measured.tools
        for name, metric in result.measured.metrics.items():
            shifted = (
                metric.model_copy(update={"tool": metric.tool + offset})
                if isinstance(metric, Measured)
                else metric
            )
            metrics[name] = shifted
    return metrics, tools


QUALITY_GATE = Agent(
    id="quality-gate",
    title="quality-gate",
    purpose="Decides GO, CONDITIONAL or NO_GO by arithmetic over what was measured and the run's thresholds.",
    tier="simple",
    tools=(),
    measures=tuple(replace(measure, relayed=True) for measure in (*TESTS, FAILED_BEFORE, *COVERAGE, *DIFF)),
    gates=True,
    measure=_measure,
    judgement=Judgement(prompt="quality-gate", response=GateExplanation),
    memory_key="quality/decisions",
    memory_reads=("notes/*", "approvals/*"),
)
