"""`qe agents`: who can be asked for in a run."""

from __future__ import annotations

from worker.cli.output import AsJson, print_rows

EXAMPLES = "[bold]Examples[/]\n\nqe agents\n\nqe agents --json"

_COLUMNS = {"id": "agent", "purpose": "what it does", "tools": "tools that measure", "tier": "tier"}


def agents(as_json: AsJson = False) -> None:
    """List the agents, what they do and the tools they measure with."""
    from qefleet.agents.catalogue import built_in

    rows = [
        {
            "id": agent.id,
            "title": agent.title,
            "purpose": agent.purpose,
            "tools": list(agent.tools) if as_json else ", ".join(agent.tools),
            "tier": agent.tier,
            "memory_key": agent.memory_key,
            "options": agent.options.model_json_schema().get("properties", {}),
        }
        for agent in built_in()
    ]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="no agents")
