"""What a commander commands: a request decomposed into agents' tasks. Workflow-safe."""

from __future__ import annotations

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


class CommanderDetails(Model):
    """The `details` of `fleet-commander`."""

    request: str
    depth_left: int
    agents: list[AgentOffer]
    standard_plan: Command
    """What is done where no model is asked."""
