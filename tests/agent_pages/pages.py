"""Writes `docs/agents/` from the agents' declarations and their recorded results: `make agent-pages`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from agent_pages.examples import FOLDER, ROOT, WHEN, example_of, input_of, target_of

from qefleet.agents.agent import Agent
from qefleet.agents.catalogue import built_in
from qefleet.agents.description import Description, Option, describe, limit_in_words
from qefleet.contracts.measured import Measured
from qefleet.contracts.runs import AgentResult
from qefleet.reports.text import figure
from qefleet.tools.program import Tool

_ISSUES = 5


@cache
def pages() -> dict[str, str]:
    """By file name below `docs/agents`: what it should hold."""
    agents = sorted(built_in(), key=lambda agent: agent.id)
    return {"README.md": _index(agents)} | {f"{agent.id}.md": page(agent) for agent in agents}


def page(agent: Agent) -> str:
    """One agent's page."""
    about = describe(agent)
    parts = [
        f"# {agent.id}",
        f"{agent.purpose}\n{WHEN.get(agent.id, '')}".strip(),
        *_use(about),
        "## Tools",
        *_tools(agent),
        "## Options",
        _option_table("option", about.options) or "It has none.",
        "## What it measures",
        *_measures(agent),
        f"Its latest result is remembered under `aqe/{agent.memory_key}`.",
        "## What the model does",
        *_answer(about),
        "## A real result",
        *_result(agent),
    ]
    return "\n\n".join(parts) + "\n"


def _index(agents: Sequence[Agent]) -> str:
    rows = [[f"[{agent.id}]({agent.id}.md)", agent.purpose] for agent in agents]
    return (
        "# The agents\n\nWhich agent does what, and what does it need?\n\n"
        f"{_table(['agent', 'what it does'], rows)}\n\n"
        "Each is run alone by `qe run pipeline . --agents ID`, or beside others in any "
        "[pattern](../patterns/README.md); `qe agents show ID` tells what is installed here.\n"
        "These pages are written by `make agent-pages` from the declarations; "
        "results are recorded by `make agent-results`.\n"
    )


def _use(about: Description) -> Iterator[str]:
    ids = ",".join(about.example["agents"])
    commands = (f"$ qe run pipeline . --agents {ids}", f"$ qe agents show {about.agent.id}")
    yield "\n".join(["```console", *commands, f"$ {about.through_temporal}", "```"])


def _tools(agent: Agent) -> Iterator[str]:
    if not agent.tools:
        yield "It needs none: it works on what others have measured."
        return
    yield _table(["tool", "how it is installed"], [_tool(tool) for tool in agent.tools])
    if any(isinstance(tool, Tool) for tool in agent.tools):
        yield "What a missing tool would have measured is `Unmeasured`, with the reason; nothing else stops."


def _tool(tool: Tool | str) -> list[str]:
    if isinstance(tool, str):
        return [tool, "always there"]
    comes_along = not tool.extra and not tool.program
    return [tool.name, "with qefleet" if comes_along else tool.how_to_install]


def _measures(agent: Agent) -> Iterator[str]:
    if not agent.measures:
        yield "No number."
        return
    if all(measure.relayed for measure in agent.measures):
        yield "Nothing itself: it relays these."
    rows = [[f"`{measure.name}`", measure.unit, limit_in_words(measure.limit)] for measure in agent.measures]
    limited = any(measure.limit for measure in agent.measures)
    heads = ["metric", "unit", "what the gate asks by default"]
    yield _table(heads, rows) if limited else _table(heads[:2], [row[:2] for row in rows])


def _answer(about: Description) -> Iterator[str]:
    agent = about.agent
    if not about.answer:
        yield "Nothing."
        return
    what = "It proposes; what it proposes is tried." if agent.loop else "It judges what was measured."
    cites = " What it cites has to be in the evidence, or it is asked again." * any(
        field.cites for field in about.answer
    )
    reads = " and ".join(f"`aqe/{glob}`" for glob in agent.memory_reads)
    memory = (
        f"\nIt is shown {reads} of the project's [memory](../memory.md), if there is any." if reads else ""
    )
    yield f"{what}{cites}\nNo number of the result is from it.{memory}"
    yield _option_table("field", about.answer)
    if about.prompt and (ROOT / "qefleet/agents/prompts" / f"{about.prompt.name}.md").exists():
        path = f"../../qefleet/agents/prompts/{about.prompt.name}.md"
        yield f"Its prompt: [{about.prompt.name}.md]({path}), whose digest `qe agents show {agent.id}` tells."


def _option_table(what: str, options: Iterable[Option]) -> str:
    rows = [
        [
            f"`{option.name}`",
            option.form + (", cited" if option.cites else ""),
            f"`{option.default}`" if option.default else "",
            option.about,
        ]
        for option in options
    ]
    if not rows:
        return ""
    kept = [0, 1, *(column for column in (2, 3) if any(row[column] for row in rows))]
    heads = [what, "value", "default", "what it is"]
    return _table([heads[column] for column in kept], [[row[column] for column in kept] for row in rows])


def _result(agent: Agent) -> Iterator[str]:
    path = FOLDER / "results" / f"{agent.id}.json"
    if not path.exists():
        yield "None is recorded yet."
        return
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    target = target_of(agent.id)
    where = f"[{target}](examples/{target})" if (FOLDER / "examples" / target).is_dir() else f"`{target}`"
    asked = input_of(agent.id)
    judged = "" if result["judged"] else ", without a model"
    compared = ", compared with the commit before a change" if example_of(agent.id).before_change else ""
    told = _cell(result["headline"])
    yield f"Of {where}{compared}{judged}: **{result['status']}**, {told}."
    if asked != {"agents": [agent.id]}:
        yield f"The input:\n\n```json\n{json.dumps(asked, indent=1)}\n```"
    measured = AgentResult.model_validate(_readable(result)).measured
    rows = [
        [f"`{name}`", f"{figure(metric.value)} {metric.unit}", measured.tools[metric.tool].tool]
        if isinstance(metric, Measured)
        else [f"`{name}`", "unmeasured", _cell(metric.reason)]
        for name, metric in sorted(measured.metrics.items())
    ]
    if rows:
        yield _table(["measured", "value", "by"], rows)
    issues: list[Any] = [each for each in measured.details.get("issues", []) if isinstance(each, dict)]
    if issues:
        yield _table(
            ["severity", "rule", "place", "what"],
            [
                [
                    each["severity"],
                    f"{each['tool']} {each['rule']}",
                    f"`{each['path']}:{each['line']}`" if each["path"] else "",
                    _cell(each["message"]),
                ]
                for each in issues[:_ISSUES]
            ],
        )
    yield from (f"- {_cell(note)}" for note in result["notes"])
    yield f"[All of it](results/{agent.id}.json), long lists cut."


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    """Without what was said in place of cut parts of typed lists."""
    measured = result["measured"]
    tools = [tool for tool in measured["tools"] if not isinstance(tool, str)]
    artifacts = [each for each in result["artifacts"] if not isinstance(each, str)]
    return result | {"measured": measured | {"tools": tools}, "artifacts": artifacts}


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """In one line, and nothing in it is markup."""
    return " ".join(text.replace("`", "'").replace("<", "&lt;").replace("[", "&#91;").split())[:200]


if __name__ == "__main__":
    for name, content in pages().items():
        (FOLDER / name).write_text(content, "utf-8")
