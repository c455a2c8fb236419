"""What a node of a graph sees of steps that aren't nodes, or that have failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qefleet.contracts.flows import FlowStep
from qefleet.contracts.runs import AgentResult


def as_dependencies(flow: Sequence[FlowStep], results: Sequence[AgentResult]) -> dict[str, Any]:
    """Recorded results as JSON that goes into a node's context, by the flow's step ids.

    A failed step shows as `{"error": …}`, as in `Session.flow`; a step with several agents as an object of
    their results.
    """
    by_name = {result.step: result for result in results}
    shown: dict[str, Any] = {}
    for step in flow:
        names = {spec.spec.agent: spec.step for spec in step.specs("")} if step.operation is None else {}
        found = {agent: _shown(by_name[name]) for agent, name in names.items() if name in by_name}
        if step.agents and found:
            shown[step.id] = found
        elif step.id in by_name:
            shown[step.id] = _shown(by_name[step.id])
    return shown


def _shown(result: AgentResult) -> Any:
    if result.status != "completed":
        return {"error": result.error.message if result.error else result.status}
    if result.judged is not None and "result" in result.judged and not result.measured.metrics:
        return result.judged["result"]
    return {
        "headline": result.headline,
        "decision": result.decision and result.decision.value,
        "measured": {name: result.measured.value(name) for name in result.measured.metrics},
        "judged": result.judged,
    }
