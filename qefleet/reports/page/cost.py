"""What the run's questions cost, and which tools measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qefleet.contracts.measured import ToolRun
from qefleet.contracts.runs import AgentResult, Usage
from qefleet.reports.page.charts import Bar
from qefleet.reports.text import seconds

_BARS = 15


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What an agent's questions cost."""

    agent: str
    usage: Usage
    cost: str


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """A tool, and who used it."""

    tool: str
    version: str
    agents: str
    runs: int
    took: str


def cost_rows(steps: Sequence[AgentResult]) -> list[CostRow]:
    """By agent; those that asked nothing are left out."""
    by_agent: dict[str, Usage] = {}
    for step in steps:
        by_agent[step.agent] = by_agent.get(step.agent, Usage()) + step.usage
    return [
        cost_row(agent, usage) for agent, usage in by_agent.items() if usage.calls or usage.replayed_calls
    ]


def cost_row(agent: str, usage: Usage) -> CostRow:
    """What was asked under one name."""
    return CostRow(agent=agent, usage=usage, cost=money(usage.cost_usd))


def money(cost_usd: float | None) -> str:
    """A price for people."""
    return "no price known" if cost_usd is None else f"${cost_usd:,.4f}" if cost_usd else "$0"


def cost_bars(costs: Sequence[CostRow]) -> list[Bar]:
    """Tokens by agent: they are known where the price isn't."""
    rows = [(row, row.usage.input_tokens + row.usage.output_tokens) for row in costs]
    rows.sort(key=lambda pair: -pair[1])
    return [Bar(name=row.agent, end=tokens, note=f"{tokens:,}, {row.cost}") for row, tokens in rows[:_BARS]]


def versions(steps: Sequence[AgentResult]) -> list[VersionRow]:
    """Each tool in each version, and who used it."""
    used: dict[tuple[str, str], list[tuple[str, ToolRun]]] = {}
    for step in steps:
        # Whoever gates relays the numbers of others, with the runs that gave them.
        for run in () if step.decision else step.measured.tools:
            used.setdefault((run.tool, run.version), []).append((step.agent, run))
    return [
        VersionRow(
            tool=tool,
            version=version,
            agents=", ".join(sorted({agent for agent, _ in runs})),
            runs=len(runs),
            took=seconds(sum(run.duration_s for _, run in runs)),
        )
        for (tool, version), runs in sorted(used.items())
    ]
