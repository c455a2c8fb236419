"""`qe agents`: who can be asked for in a run, and what each takes and gives."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import AsJson, print_json, print_rows, stdout

if TYPE_CHECKING:
    from qefleet.agents.agent import Agent
    from qefleet.agents.description import Description

EXAMPLES = (
    "[bold]Examples[/]\n\nqe agents\n\nqe agents --json\n\nqe agents show coverage-analyzer\n\n"
    "qe agents show coverage-analyzer --json"
)

app = typer.Typer(
    help="List the agents: what they do, and the tools they measure with.", invoke_without_command=True
)

_COLUMNS = {
    "id": "agent",
    "purpose": "what it does",
    "tools": "tools that measure",
    "tier": "tier",
    "distribution": "from",
}


@app.callback(epilog=EXAMPLES)
def agents(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the agents, what they do, the tools they measure with, and the distribution they are from."""
    from qefleet.agents.installed import installed

    if ctx.invoked_subcommand:
        return
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


@app.command(
    epilog="[bold]Examples[/]\n\nqe agents show coverage-analyzer\n\nqe agents show test-generator --json"
)
def show(
    agent: Annotated[str, typer.Argument(help="Its id, see `qe agents`.")], as_json: AsJson = False
) -> None:
    """Tell what an agent takes and gives: tools, options, measures, what a model judges, and an example."""
    from qefleet.agents.checks import near
    from qefleet.agents.description import describe
    from qefleet.agents.installed import installed
    from qefleet.errors import UsageError

    catalogue = installed()
    if agent not in catalogue:
        raise UsageError(f"AGENT: no such agent; {near(agent, [each.id for each in catalogue])}")
    description = describe(catalogue.get(agent))
    if as_json:
        print_json(_as_json(description, catalogue.distribution(agent)))
    else:
        _print(description, catalogue.distribution(agent))


def _as_json(description: Description, distribution: str) -> dict[str, Any]:
    agent, prompt = description.agent, description.prompt
    response = agent.judgement.response if agent.judgement else agent.loop.response if agent.loop else None
    return {
        "id": agent.id,
        "title": agent.title,
        "purpose": agent.purpose,
        "tier": agent.tier,
        "distribution": distribution,
        "memory_key": f"aqe/{agent.memory_key}",
        "memory_reads": [f"aqe/{glob}" for glob in agent.memory_reads],
        "gates": agent.gates,
        "looped": agent.loop is not None,
        "tools": _tools(agent),
        "options": agent.options.model_json_schema(),
        "measures": [asdict(measure) for measure in agent.measures],
        "answer": response.model_json_schema() if response else None,
        "cites": [field.name for field in description.answer if field.cites],
        "prompt": {"name": prompt.name, "digest": prompt.digest} if prompt else None,
        "example": {
            "input": description.example,
            "qe": description.typed,
            "temporal": description.through_temporal,
        },
    }


def _print(description: Description, distribution: str) -> None:
    from rich.markup import escape

    from qefleet.agents.description import limit_in_words

    agent, prompt, console = description.agent, description.prompt, stdout()

    def table(heading: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> None:
        if rows:
            console.print(f"\n[bold]{heading}[/]")
            print_rows(rows, columns=columns, as_json=False, empty="")

    console.print(f"[bold]{escape(agent.id)}[/]: {escape(agent.purpose)}", soft_wrap=True)
    console.print(f"from {escape(distribution)}, tier {agent.tier}, remembered as aqe/{agent.memory_key}")
    if reads := ", ".join(f"aqe/{glob}" for glob in agent.memory_reads):
        console.print(f"its model is shown {reads}")
    table(
        "tools",
        {"name": "tool", "here": "here"},
        [
            {"name": tool["name"], "here": tool["version"] or f"missing: {tool['install']}"}
            for tool in _tools(agent)
        ],
    )
    table(
        "options",
        {"name": "option", "form": "value", "default": "default", "about": "what it is"},
        [vars(option) for option in description.options],
    )
    table(
        "measures",
        {"name": "metric", "unit": "unit", "limit": "the gate asks"},
        [
            {"name": measure.name, "unit": measure.unit, "limit": limit_in_words(measure.limit)}
            for measure in agent.measures
        ],
    )
    table(
        "a model proposes" if agent.loop else "a model judges",
        {"name": "field", "form": "value", "about": "what it is"},
        [
            vars(field) | {"form": field.form + (", cited from the evidence" if field.cites else "")}
            for field in description.answer
        ],
    )
    if prompt:
        console.print(f"prompt {prompt.name}, sha256 {prompt.digest}", soft_wrap=True)
    console.print("\n[bold]example[/]")
    for line in (description.typed, description.through_temporal):
        console.print(line, soft_wrap=True, markup=False)


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
