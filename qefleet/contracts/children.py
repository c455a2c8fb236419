"""What the fleet's own child workflows take: parts of a run, with histories of their own."""

from __future__ import annotations

from qefleet.contracts.base import Model
from qefleet.contracts.items import ItemList
from qefleet.contracts.runs import AgentResult
from qefleet.contracts.steps import Plan, RunRef, StepPlan


class ChildInput(Model):
    """A part of a run that is open already."""

    ref: RunRef
    plan: Plan
    """Without its steps."""
    earlier: list[str]
    """Steps whose results and patches all parts build on."""
    paused: bool = False


class ExpansionInput(ChildInput):
    """Agents on each item of a list; continues as new where it was."""

    steps: list[StepPlan]
    items: ItemList
    max_concurrent: int
    first: int = 0
    """The next item to begin."""
    completed: int = 0
    failed: int = 0


class ExpansionOutcome(Model):
    """How many items came to which end; their results are in the database."""

    completed: int
    failed: int


class ItemInput(ChildInput):
    """Agents one after the other on one item."""

    steps: list[StepPlan]
    source: str
    ordinal: int
    name: str


class ItemOutcome(Model):
    """Whether all agents completed."""

    completed: bool


class Bounds(Model):
    """How far commanders may go."""

    depth_left: int
    """How deep the next commander may hand parts of its request to others."""
    max_tasks: int
    max_concurrent: int


class TaskInput(ChildInput):
    """One task of a commander's plan: an agent, or a commander of its own for a part of the request."""

    step: StepPlan
    bounds: Bounds | None = None
    """For a commander."""


class TaskOutcome(Model):
    """What came of a task and of all below it, for the parent's table and result."""

    steps: list[StepPlan]
    results: list[AgentResult]
