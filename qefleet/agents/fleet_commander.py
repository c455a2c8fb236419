"""fleet-commander: a model decomposes a request into agents' tasks; what it may plan is checked here."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from qefleet.agents.agent import Agent, ConversationOptions, Judgement, Measure, StepContext
from qefleet.agents.checks import check_options
from qefleet.agents.evidence import keep_evidence
from qefleet.contracts.base import Model
from qefleet.contracts.commands import MAX_TASKS, AgentHistory, AgentOffer, Command, CommanderDetails, Task
from qefleet.contracts.measured import Measured, Measurement, ToolRun
from qefleet.contracts.steps import Finding
from qefleet.errors import InvalidInput

_ID = "fleet-commander"


class FleetCommanderOptions(ConversationOptions):
    """What is commanded, and how far; the workflow fills them in."""

    request: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = "Test what is not tested yet."
    depth_left: Annotated[int, Field(ge=0, le=3)] = 0
    """How deep it may hand parts of its request to commanders of their own; 0: every task is an agent's."""
    max_tasks: Annotated[int, Field(ge=1, le=MAX_TASKS)] = 16


async def _measure(ctx: StepContext) -> Finding:
    options: FleetCommanderOptions = ctx.options
    history = await ctx.history()
    details = CommanderDetails(
        request=options.request,
        depth_left=options.depth_left,
        agents=[
            AgentOffer(id=agent.id, purpose=agent.purpose, options=in_short(agent.options))
            for agent in _for_tasks(ctx)
        ],
        standard_plan=standard_plan(),
        history=history,
    )
    evidence = details.model_dump(mode="json", exclude={"standard_plan", "history"})
    evidence["max_tasks"] = options.max_tasks
    return Finding(
        measurement=Measurement(
            metrics={"commander.known_agents": Measured(value=len(history), unit="agents", tool=0)},
            tools=[await _ledger_run(ctx, history)],
            details=details.model_dump(mode="json"),
        ),
        headline=f"{len(details.agents)} agents can be given tasks",
        notes=[] if ctx.uses_model else ["no model is used, so the standard plan is followed"],
        evidence=await keep_evidence(ctx.artifacts, evidence),
    )


async def _ledger_run(ctx: StepContext, history: list[AgentHistory]) -> ToolRun:
    """Where the figures come from: the steps that are recorded in Postgres."""
    rows = [entry.model_dump(mode="json") for entry in history]
    kept = await ctx.artifacts.put(
        json.dumps(rows, indent=1).encode(), name="history.json", media_type="application/json"
    )
    return ToolRun(
        tool="recorded steps",
        version=version("qefleet"),
        argv=["history"],
        exit_code=0,
        duration_s=0.0,
        artifact=kept,
    )


def standard_plan() -> Command:
    """What a Pipeline does by default, without the gate: generate tests, then execute and measure."""
    return Command(
        tasks=[
            Task(id="generate", agent="test-generator", goal="Write tests for what is not covered."),
            Task(id="execute", agent="test-executor", goal="Run all tests.", depends_on=["generate"]),
            Task(id="cover", agent="coverage-analyzer", goal="Measure coverage.", depends_on=["generate"]),
        ]
    )


def check_command(ctx: StepContext, command: Command) -> None:
    """Check a plan against the catalogue and the agents' options.

    Raises:
        ValueError: A task can't be done as it stands; its path is named, for the model that wrote it.
    """
    options: FleetCommanderOptions = ctx.options
    if len(command.tasks) > options.max_tasks:
        raise ValueError(f"tasks: {len(command.tasks)} tasks, at most {options.max_tasks} are allowed")
    known = [agent.id for agent in _for_tasks(ctx)]
    for number, task in enumerate(command.tasks):
        if task.agent is None:
            if not options.depth_left:
                raise ValueError(f"tasks.{number}.request: no further commanders: name an agent instead")
            continue
        if task.agent not in known:
            raise ValueError(f"tasks.{number}.agent: no such agent; choose from {', '.join(known)}")
        try:
            check_options(ctx.catalogue.get(task.agent), task.options, field=f"tasks.{number}.options")
        except InvalidInput as error:
            raise ValueError(str(error)) from error


def in_short(options: type[Model]) -> dict[str, str]:
    """An options type as a model reads it, such as `{"max_rounds": "integer, 1 to 3, default 3"}`."""
    schema = options.model_json_schema()
    return {name: _described(field) for name, field in schema.get("properties", {}).items()}


def _for_tasks(ctx: StepContext) -> list[Agent]:
    """All but those that gate, which is for the run's input alone, and commanders, which take requests."""
    return [agent for agent in ctx.catalogue if not agent.gates and agent.id != _ID]


def _described(field: dict[str, Any]) -> str:
    forms: list[dict[str, Any]] = field.get("anyOf", [field])
    kinds = [str(form.get("type", "value")) for form in forms if form.get("type") != "null"]
    bounded = [form for form in forms if "minimum" in form or "exclusiveMinimum" in form]
    parts = [" or ".join(kinds) or "value"]
    for bounds in bounded[:1]:
        least = bounds.get("minimum", bounds.get("exclusiveMinimum"))
        most = bounds.get("maximum", bounds.get("exclusiveMaximum"))
        parts.append(f"{least} to {most}" if most is not None else f"from {least}")
    if "default" in field:
        parts.append(f"default {field['default']}")
    return ", ".join(parts)


FLEET_COMMANDER = Agent(
    id=_ID,
    title=_ID,
    purpose="Decomposes a request into agents' tasks; a plan is checked before it is followed.",
    tier="complex",
    tools=(),
    measures=(Measure("commander.known_agents", "agents"),),
    options=FleetCommanderOptions,
    measure=_measure,
    judgement=Judgement(prompt=_ID, response=Command, check=check_command, required=True),
    memory_key="fleet-commander/last_plan",
    memory_reads=("notes/*", "approvals/*"),
)
