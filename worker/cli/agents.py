"""`qe agents`: who can be asked for in a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from worker.cli.output import AsJson, print_rows

if TYPE_CHECKING:
    from qefleet.agents.agent import Agent

EXAMPLES = "[bold]Examples[/]\n\nqe agents\n\nqe agents --json"

_COLUMNS = {
    "id": "agent",
    "purpose": "what it does",
    "tools": "tools that measure",
    "tier": "tier",
    "distribution": "from",
}


def agents(as_json: AsJson = False) -> None:
    """List the agents, what they do, the tools they measure with, and the distribution they are from."""
    from qefleet.agents.installed import installed

    catalogue = installed()
    rows = [
        {
            "id": agent.id,
            "title": agent.title,
            "purpose": agent.purpose,
            "tools": _tools(agent) if as_json else ", ".join(_in_short(tool) for tool in _tools(agent)),
            "tier": agent.tier,
            "distribution": catalogue.distribution(agent.id),
            "memory_key": agent.memory_key,
            "measures": [asdict(measure) for measure in agent.measures],
            "gates": agent.gates,
            "options": agent.options.model_json_schema().get("properties", {}),
        }
        for agent in catalogue
    ]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="no agents")


def _tools(agent: Agent) -> list[dict[str, Any]]:
    """Each with its version here, null where it is missing; those of the target are installed with it."""
    from qefleet.tools.program import Tool

    return [
        {"name": tool.name, "version": tool.version(), "install": tool.how_to_install}
        if isinstance(tool, Tool)
        else {"name": tool, "version": "always there", "install": ""}
        for tool in agent.tools
    ]


def _in_short(tool: dict[str, Any]) -> str:
    return tool["name"] if tool["version"] else f"{tool['name']} (missing)"
