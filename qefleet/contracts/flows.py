"""A flow: steps that depend on each other, with conditions and expansions, in one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from qefleet.contracts.base import Model
from qefleet.contracts.conditions import Condition
from qefleet.contracts.graph import check_graph
from qefleet.contracts.items import Item
from qefleet.contracts.operations import Operation
from qefleet.contracts.patterns import Concurrency, MaxItems, StepSpec
from qefleet.contracts.runs import AgentId, AgentSpec, Approval, RunOptions, Usd
from qefleet.contracts.targets import Target

FlowId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]


class ForEach(Model):
    """Runs a step's agents on each item of a list; a string names the step whose result lists them."""

    step: FlowId | None = None
    """A step before this one whose result lists items."""
    items: Annotated[list[Item], Field(min_length=1, max_length=10_000)] | None = None
    files: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """A glob over the target's files."""
    max_concurrent: Concurrency = 8
    max_items: MaxItems = 10_000

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        match value:
            case str():
                return {"step": value}
            case list():
                return {"items": value}  # pyright: ignore[reportUnknownVariableType] - checked by the field
            case _:
                return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(given is not None for given in (self.step, self.items, self.files)) != 1:
            raise ValueError("give exactly one of step, items, files")
        return self


class FlowStep(Model):
    """One node: an agent, several one after the other, or an operation of a lionagi graph."""

    id: FlowId
    agent: AgentId | None = None
    agents: Annotated[list[AgentSpec], Field(min_length=1, max_length=16)] | None = None
    """Run one after the other, on each item where there is `for_each`."""
    operation: Operation | None = None
    options: dict[str, Any] = {}
    on_failure: Literal["stop", "continue"] = "stop"
    timeout_minutes: Annotated[float, Field(gt=0, le=60 * 24 * 30)] | None = None
    budget_usd: Usd | None = None
    approval: Approval | None = None
    """A person is asked before the first of its agents is run."""
    depends_on: Annotated[list[FlowId], Field(max_length=256)] = []
    """Steps that end first, and whose results and patches this one builds on."""
    when: Condition | None = None
    """Skips the step where it doesn't hold. A step all of whose `depends_on` were skipped is skipped too."""
    for_each: ForEach | None = None
    optional: bool = False
    """Left out, with a note, where the fleet has no such agent."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(given is not None for given in (self.agent, self.agents, self.operation)) != 1:
            raise ValueError("give exactly one of agent, agents, operation")
        given = (self.options, self.timeout_minutes, self.budget_usd, self.on_failure != "stop")
        if self.agents and any(given):
            raise ValueError("options, timeout_minutes, budget_usd and on_failure stand with each of agents")
        if self.operation and (self.for_each or self.options):
            raise ValueError("an operation has parameters of its own: no options, no for_each")
        if self.operation and self.operation.inherit_from not in (None, *self.depends_on):
            raise ValueError("operation.inherit_from: must stand in depends_on")
        return self

    @property
    def before(self) -> list[str]:
        """All steps that end first: `depends_on`, and where its items come from."""
        source = self.for_each.step if self.for_each else None
        return [*self.depends_on, *([source] if source and source not in self.depends_on else [])]

    def specs(self, field: str) -> list[StepSpec]:
        """Its agents as steps of the run: `id` for one, `id.agent` for each of several."""
        if self.agent:
            spec = AgentSpec(
                agent=self.agent,
                options=self.options,
                on_failure=self.on_failure,
                timeout_minutes=self.timeout_minutes,
                budget_usd=self.budget_usd,
                approval=self.approval,
            )
            return [StepSpec(step=self.id, spec=spec, field=f"{field}.agent")]
        specs = list(self.agents or [])
        if specs and self.approval:
            specs[0] = specs[0].model_copy(update={"approval": specs[0].approval or self.approval})
        return [
            StepSpec(step=f"{self.id}.{spec.agent}", spec=spec, field=f"{field}.agents.{number}")
            for number, spec in enumerate(specs)
        ]


class FlowInput(RunOptions):
    """A flow of one's own (`steps`), or one that ships with the fleet (`flow`)."""

    target: Target | None = None
    """Needed as soon as one step runs an agent."""
    flow: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=64)] | None = None
    steps: Annotated[list[FlowStep], Field(min_length=1, max_length=512)] | None = None
    max_concurrent: Concurrency = 8
    """Steps in work at once."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.flow is None) == (self.steps is None):
            raise ValueError("give either flow, the name of one that ships, or steps")
        if self.target is None and (self.flow or any(step.operation is None for step in self.steps or [])):
            raise ValueError("target: Field required where agents are run")
        if self.steps:
            check_steps(self.steps)
        return self


def check_steps(steps: Sequence[FlowStep]) -> None:
    """Check that the steps make a graph.

    Raises:
        ValueError: An id stands twice, a dependency doesn't exist, or they go in circles; the path is named.
    """
    check_graph("steps", "step", [(step.id, _waits_for(step)) for step in steps])


def _waits_for(step: FlowStep) -> dict[str, str]:
    """The steps that end first, by their place in the step."""
    source = step.for_each.step if step.for_each else None
    listed = {f"depends_on.{place}": name for place, name in enumerate(step.depends_on)}
    return listed | ({"for_each.step": source} if source else {})


def ancestors(steps: Sequence[FlowStep]) -> dict[str, list[str]]:
    """For each step, all that end before it, in an order in which they can be run."""
    by_id = {step.id: step for step in steps}
    order = list(TopologicalSorter({step.id: step.before for step in steps}).static_order())
    before: dict[str, set[str]] = {}
    for name in order:
        direct = by_id[name].before
        before[name] = {*direct, *(far for near in direct for far in before[near])}
    return {name: [earlier for earlier in order if earlier in before[name]] for name in order}
