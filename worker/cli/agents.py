"""`qe agents`: who can be asked for in a run."""

from __future__ import annotations

from dataclasses import asdict

from worker.cli.output import AsJson, print_rows

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
            "tools": list(agent.tools) if as_json else ", ".join(agent.tools),
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
