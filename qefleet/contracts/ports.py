"""The activities that workflows call, as typed stubs.

Workflows name these methods, `activities` subclasses implement them: neither imports the other.
The names are durable: they stand in histories.
"""

from __future__ import annotations

from typing import Any

from temporalio import activity

from qefleet.contracts.items import ItemList, ItemPage
from qefleet.contracts.learning import Choice, Depth, Rewarded
from qefleet.contracts.memory import Deleted, Entries, Remembered, Stored
from qefleet.contracts.steps import (
    AddedSteps,
    AddSteps,
    Answer,
    ChooseDepth,
    ChooseStrategy,
    Closed,
    CloseRun,
    Conclude,
    Finding,
    Judge,
    OpenRun,
    PageOfItems,
    Plan,
    RecordApproval,
    Recorded,
    RecordStep,
    RewardStrategy,
    Round,
    RunRef,
    StepRef,
    StoreItems,
    SumUp,
    SumUpResult,
    Trial,
    Verdict,
)
from qefleet.contracts.targets import Environment, Snapshot


class RunPort:
    """Opening and closing a run."""

    @activity.defn(name="open_run")
    async def open_run(self, request: OpenRun) -> Plan:
        """Check the input against the catalogue and enter the run."""
        raise NotImplementedError

    @activity.defn(name="take_snapshot")
    async def take_snapshot(self, run: RunRef) -> Snapshot:
        """Read the run's target once, content-addressed."""
        raise NotImplementedError

    @activity.defn(name="prepare_environment")
    async def prepare_environment(self, run: RunRef) -> Environment:
        """Install what the snapshot's code needs; the only step with network."""
        raise NotImplementedError

    @activity.defn(name="add_steps")
    async def add_steps(self, request: AddSteps) -> AddedSteps:
        """Check steps that became known only now and add them to the run's plan."""
        raise NotImplementedError

    @activity.defn(name="store_items")
    async def store_items(self, request: StoreItems) -> ItemList:
        """Write an expansion's list down."""
        raise NotImplementedError

    @activity.defn(name="page_of_items")
    async def page_of_items(self, request: PageOfItems) -> ItemPage:
        """Name some of a list's items."""
        raise NotImplementedError

    @activity.defn(name="record_approval")
    async def record_approval(self, request: RecordApproval) -> None:
        """Keep what a person said in memory."""
        raise NotImplementedError

    @activity.defn(name="close_run")
    async def close_run(self, request: CloseRun) -> Closed:
        """Write the report from what was recorded."""
        raise NotImplementedError


class AgentPort:
    """What running an agent takes."""

    @activity.defn(name="measure")
    async def measure(self, step: StepRef) -> Finding:
        """Run the agent's tools; no model is asked."""
        raise NotImplementedError

    @activity.defn(name="judge")
    async def judge(self, request: Judge) -> Answer:
        """Have a model judge what was measured."""
        raise NotImplementedError

    @activity.defn(name="operate")
    async def operate(self, request: StepRef) -> Answer:
        """Do what a node of a lionagi graph does: one call of a Branch's method."""
        raise NotImplementedError

    @activity.defn(name="choose_strategy")
    async def choose_strategy(self, request: ChooseStrategy) -> Choice:
        """Choose how to come by a proposal for an item; the first choice stands."""
        raise NotImplementedError

    @activity.defn(name="choose_depth")
    async def choose_depth(self, request: ChooseDepth) -> Depth:
        """Choose whether another round is worth it for an item; the first choice stands."""
        raise NotImplementedError

    @activity.defn(name="reward_strategy")
    async def reward_strategy(self, request: RewardStrategy) -> Rewarded:
        """Reward a choice by what was measured, and learn from it, once."""
        raise NotImplementedError

    @activity.defn(name="propose")
    async def propose(self, request: Round) -> Answer:
        """Have a model propose something for an item."""
        raise NotImplementedError

    @activity.defn(name="draft")
    async def draft(self, request: Round) -> Answer:
        """Propose something for an item by tools alone, without a model."""
        raise NotImplementedError

    @activity.defn(name="try_proposal")
    async def try_proposal(self, request: Trial) -> Verdict:
        """Run a proposal through the agent's filters."""
        raise NotImplementedError

    @activity.defn(name="conclude")
    async def conclude(self, request: Conclude) -> Finding:
        """Measure once more what the loop has gained."""
        raise NotImplementedError

    @activity.defn(name="record")
    async def record(self, request: RecordStep) -> Recorded:
        """Write the step's result down, once; tells what its model calls cost."""
        raise NotImplementedError

    @activity.defn(name="sum_up")
    async def sum_up(self, request: SumUp) -> SumUpResult:
        """Make one result of all that was recorded of an expansion's items."""
        raise NotImplementedError


class MemoryPort:
    """Memory, for workflows of your own; each takes the JSON object of its request in `contracts.memory`."""

    @activity.defn(name="memory_store")
    async def memory_store(self, request: dict[str, Any]) -> Stored:
        """Write a value (`StoreEntry`)."""
        raise NotImplementedError

    @activity.defn(name="memory_retrieve")
    async def memory_retrieve(self, request: dict[str, Any]) -> Remembered | None:
        """Read a value (`MemoryKey`); null where there is none."""
        raise NotImplementedError

    @activity.defn(name="memory_search")
    async def memory_search(self, request: dict[str, Any]) -> Entries:
        """Find entries by a glob over their keys (`SearchEntries`)."""
        raise NotImplementedError

    @activity.defn(name="memory_recall")
    async def memory_recall(self, request: dict[str, Any]) -> Entries:
        """Find the entries that are nearest to a text in meaning (`RecallEntries`)."""
        raise NotImplementedError

    @activity.defn(name="memory_delete")
    async def memory_delete(self, request: dict[str, Any]) -> Deleted:
        """Take a key away (`MemoryKey`)."""
        raise NotImplementedError
