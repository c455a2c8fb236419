"""What a commander commands: a request decomposed into agents' tasks. Workflow-safe."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from qefleet.contracts.base import Model
from qefleet.contracts.graph import check_graph
from qefleet.contracts.runs import AgentId

MAX_TASKS = 64

TaskId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=48)]


class Task(Model):
    """One task: for an agent, or a part of the request for a commander of its own."""

    id: TaskId
    agent: AgentId | None = None
    request: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = None
    """A part that is decomposed in its turn; in place of `agent`."""
    goal: Annotated[str, StringConstraints(max_length=500)] = ""
    """What it is for, in a sentence, for people."""
    options: dict[str, Any] = {}
    """The agent's own."""
    depends_on: Annotated[list[TaskId], Field(max_length=MAX_TASKS)] = []
    """Tasks that end first, and whose results and patches this one builds on."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.agent is None) == (self.request is None):
            raise ValueError("give exactly one of agent, request")
        if self.request is not None and self.options:
            raise ValueError("options go with an agent")
        return self


class Command(Model):
    """A plan: tasks that depend on each other without going in circles."""

    tasks: Annotated[list[Task], Field(min_length=1, max_length=MAX_TASKS)]

    @model_validator(mode="after")
    def _is_graph(self) -> Self:
        waiting = [
            (task.id, {f"depends_on.{place}": name for place, name in enumerate(task.depends_on)})
            for task in self.tasks
        ]
        check_graph("tasks", "task", waiting)
        return self


class AgentOffer(Model):
    """An agent that a commander can give a task."""

    id: AgentId
    purpose: str
    options: dict[str, str] = {}
    """What it can be told, by name: type, bounds and default, in short."""


class AgentHistory(Model):
    """What an agent took in earlier runs on the same project."""

    agent: AgentId
    runs: int
    """Completed steps that the medians are of."""
    median_s: float
    median_cost_usd: float | None
    """Null where a model of unknown price was asked."""


class PlanEstimate(Model):
    """What a plan will take if each task takes what its agent took before."""

    work_s: float
    """Of all tasks together."""
    critical_path_s: float
    """Of the longest chain of tasks that wait for each other."""
    cost_usd: float | None
    """Null where one of the prices is unknown."""
    unknown: list[str]
    """Tasks about which there is no history: they are in none of the sums."""

    def __str__(self) -> str:
        cost = "unknown cost" if self.cost_usd is None else f"${self.cost_usd:.4f}"
        text = f"{self.critical_path_s:.0f} s at best, {self.work_s:.0f} s of work, {cost}"
        return text + (f"; without {', '.join(self.unknown)}, never run here before" if self.unknown else "")


def estimate(command: Command, history: Sequence[AgentHistory]) -> PlanEstimate:
    """Add up a plan's tasks from history."""
    known = {entry.agent: entry for entry in history}
    tasks = {task.id: task for task in command.tasks}
    before = {name: known.get(task.agent or "") for name, task in tasks.items()}
    ends: dict[str, float] = {}
    for name in TopologicalSorter({task.id: task.depends_on for task in command.tasks}).static_order():
        entry = before[name]
        ends[name] = max((ends[other] for other in tasks[name].depends_on), default=0.0)
        ends[name] += entry.median_s if entry else 0.0
    found = [entry for entry in before.values() if entry]
    costs = [entry.median_cost_usd for entry in found]
    return PlanEstimate(
        work_s=sum(entry.median_s for entry in found),
        critical_path_s=max(ends.values()),
        cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        unknown=sorted(name for name, entry in before.items() if entry is None),
    )


class CommanderDetails(Model):
    """The `details` of `fleet-commander`."""

    request: str
    depth_left: int
    agents: list[AgentOffer]
    standard_plan: Command
    """What is done where no model is asked."""
    history: list[AgentHistory] = []
    """By agent; those that have never completed on this project are left out."""
