"""One result of an expansion's step, summed over its items."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from qefleet.agents.agent import Agent
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun
from qefleet.contracts.runs import AgentResult, StepError, StepStatus
from qefleet.contracts.steps import SumUp

_NAMED_FAILURES = 10
_METRICS = TypeAdapter[dict[str, Metric]](dict[str, Metric])


@dataclass(frozen=True, kw_only=True)
class Summed:
    """A sum that still lacks the artifact with all items."""

    listing: bytes
    """JSON lines: step, status, headline, error and metrics of each item."""
    base: AgentResult
    metrics: dict[str, tuple[float, str]]
    """Value and unit by name."""

    def result(self, listing: ArtifactRef) -> AgentResult:
        """The step's result; the listing is what its figures were computed from."""
        tool = ToolRun(
            tool="qefleet sum over items",
            version=version("qefleet"),
            argv=["sum_up", self.base.step],
            exit_code=0,
            duration_s=0.0,
            artifact=listing,
        )
        metrics: dict[str, Metric] = {
            name: Measured(value=value, unit=unit, tool=0) for name, (value, unit) in self.metrics.items()
        }
        return self.base.model_copy(
            update={"measured": Measurement(metrics=metrics, tools=[tool]), "artifacts": [listing]}
        )


def sum_of_items(request: SumUp, rows: Sequence[dict[str, Any]], agent: Agent) -> Summed:
    """Sum what was recorded of an expansion's items.

    Metrics that the agent declares additive are added up, others can't be; an item that was never begun
    counts in `items.total` only. The step has failed when no item completed.

    Args:
        request: The step and its list.
        rows: As `RunStore.item_results` gives them.
        agent: Whose step it is.
    """
    counts = Counter(row["status"] for row in rows)
    metrics: dict[str, tuple[float, str]] = {
        "items.total": (request.items.count, "items"),
        "items.completed": (counts["completed"], "items"),
        "items.failed": (counts["failed"] + counts["cancelled"], "items"),
    }
    metrics |= _sums(rows, agent)
    failures = [row for row in rows if row["status"] == "failed"]
    notes = [
        f"{row['step']} failed: {row['error']['type']}: {row['error']['message']}"
        for row in failures[:_NAMED_FAILURES]
        if row["error"]
    ]
    if len(failures) > _NAMED_FAILURES:
        notes.append(f"and {len(failures) - _NAMED_FAILURES} more; all are in items.jsonl")
    if request.cut:
        notes.append(f"{request.cut} items over max_items were left out")
    error = request.error
    if error is None and failures and not counts["completed"]:
        error = StepError(type="AllItemsFailed", message=notes[0])
    headline = f"{counts['completed']} of {request.items.count} items"
    if counts["failed"] or counts["cancelled"]:
        headline += f", {counts['failed']} failed, {counts['cancelled']} cancelled"
    base = AgentResult(
        step=request.step,
        agent=agent.id,
        status=_status(error),
        headline=headline,
        error=error,
        notes=notes,
        duration_s=request.duration_s,
    )
    listing = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
    return Summed(listing=listing, base=base, metrics=metrics)


def _sums(rows: Sequence[dict[str, Any]], agent: Agent) -> dict[str, tuple[float, str]]:
    """What the agent declares additive, over the items that measured it, whatever their end was."""
    units = {measure.name: measure.unit for measure in agent.measures if measure.additive}
    sums: dict[str, float] = {}
    for row in rows:
        for name, metric in _METRICS.validate_python(row["metrics"] or {}).items():
            if name in units and isinstance(metric, Measured):
                sums[name] = sums.get(name, 0.0) + metric.value
    return {name: (value, units[name]) for name, value in sums.items()}


def _status(error: StepError | None) -> StepStatus:
    if error is None:
        return "completed"
    return "cancelled" if error.type == "Cancelled" else "failed"
