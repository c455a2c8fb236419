"""What an agent is: a declaration of its tools, its prompt and its types.

Logic lives in tools that measure, prose in the prompt files; an agent says which of them belong together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.changes import Changes
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.runs import AgentResult, Thresholds
from qefleet.contracts.steps import Finding, Verdict
from qefleet.llm.models import Tier
from qefleet.llm.question import Question
from qefleet.memory.artifacts import Artifacts
from qefleet.workspace.workspace import Workspace


class NoOptions(Model):
    """For agents that have nothing to set."""


class LoopOptions(Model):
    """What any looped agent's options have."""

    max_rounds: int = 3
    max_minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What an agent works with in one step."""

    run: str
    workflow_id: str
    step: str
    options: Any
    """An instance of the agent's `options` type."""
    thresholds: Thresholds
    earlier: Sequence[AgentResult]
    """Recorded results of the steps that this one builds on, in order."""
    artifacts: Artifacts
    workspace: Callable[[], AbstractAsyncContextManager[Workspace]]
    """Opens the snapshot with the patches of the earlier steps, in its environment."""
    keep_items: Callable[[Sequence[Item]], Awaitable[ItemList]]
    """Writes down parts of the work, for `Finding.items`."""
    item: Item | None = None
    """The part that this step is confined to, inside an expansion."""
    changes: Changes | None = None
    """In diff mode: what has changed since the base."""
    base_workspace: Callable[[], AbstractAsyncContextManager[Workspace]] | None = None
    """In diff mode: opens the base, without patches; null also where the target didn't exist then."""

    def latest(self, metric: str) -> AgentResult | None:
        """The last earlier result that carries this metric."""
        return next((r for r in reversed(self.earlier) if metric in r.measured.metrics), None)


class Loop(Protocol):
    """The part of an agent that proposes and tries, in rounds."""

    @property
    def response(self) -> type[BaseModel]:
        """Type of a proposal."""
        ...

    async def question(
        self, ctx: StepContext, item: str, state: Digest, feedback: str | None
    ) -> Question[Any]:
        """What a model is asked for this item."""
        ...

    async def draft(self, ctx: StepContext, item: str, state: Digest) -> BaseModel | None:
        """A proposal by tools alone; None when they have none."""
        ...

    async def try_proposal(self, ctx: StepContext, item: str, proposal: Any, state: Digest) -> Verdict:
        """Run a proposal through the filters."""
        ...

    async def conclude(self, ctx: StepContext, state: Digest, notes: Sequence[str]) -> Finding:
        """Measure what was gained."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a model is asked about a finding's evidence."""

    prompt: str
    """File under `prompts/`, without its ending."""
    response: type[BaseModel]


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent of the fleet.

    Args:
        id: Durable name; stands in inputs, histories and memory keys.
        title: Short name for people, shown in the Temporal UI.
        purpose: One sentence for `qe agents`.
        tier: How demanding its questions are; the router picks a model by it.
        tools: Names of the programs that measure.
        measure: Runs the tools; never asks a model.
        memory_key: Where its latest result is remembered, under `aqe/`.
        options: Type of its options, all with defaults.
        judgement: What a model is asked afterwards, if anything.
        loop: For agents that propose and try.
    """

    id: str
    title: str
    purpose: str
    tier: Tier
    tools: tuple[str, ...]
    measure: Callable[[StepContext], Awaitable[Finding]]
    memory_key: str
    options: type[Model] = NoOptions
    judgement: Judgement | None = None
    loop: Loop | None = None
