"""What an agent is: a declaration of its tools, its prompt and its types.

Logic lives in tools that measure, prose in the prompt files; an agent says which of them belong together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BaseModel, Field

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.changes import Changes
from qefleet.contracts.commands import AgentHistory
from qefleet.contracts.generation import KeptTest
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.learning import Features, Gains, Order, Strategy, Tier
from qefleet.contracts.runs import AgentResult, Limit, Thresholds
from qefleet.contracts.steps import Finding, Verdict
from qefleet.llm.question import Question
from qefleet.memory.artifacts import Artifacts
from qefleet.tools.program import Tool
from qefleet.workspace.workspace import Workspace

if TYPE_CHECKING:
    from qefleet.agents.catalogue import Catalogue

OWN_PACKAGE = "qefleet.agents"
"""Where the fleet's own prompts are."""


class NoOptions(Model):
    """For agents that have nothing to set."""


class LoopOptions(Model):
    """What any looped agent's options have."""

    max_rounds: int = 3
    max_minutes: float | None = None


class ConversationOptions(Model):
    """What the options of an agent have that goes on from its earlier judgements on the same project."""

    remember_turns: Annotated[int, Field(ge=0, le=20)] = 3
    """Turns of earlier runs that a model is shown in full, older ones in a line each; 0: nothing of any."""


async def _nothing_before() -> AgentResult | None:
    return None


async def _no_history() -> list[AgentHistory]:
    return []


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
    """Recorded results of the steps before this one, in order, failed and cancelled ones too."""
    artifacts: Artifacts
    workspace: Callable[[], AbstractAsyncContextManager[Workspace]]
    """Opens the snapshot with the patches of the earlier steps, in its environment."""
    unpatched: Callable[[], AbstractAsyncContextManager[Workspace]]
    """Opens the snapshot as it came."""
    catalogue: Catalogue
    """The agents that there are."""
    keep_items: Callable[[Sequence[Item]], Awaitable[ItemList]]
    """Writes down the parts of the work that this step found, for `Finding.items`; the first list stands."""
    item: Item | None = None
    """The one part of the work that this step is confined to, inside an expansion."""
    patches: Sequence[Digest] = ()
    """What `workspace` lays over the snapshot, in order."""
    uses_model: bool = True
    """Whether a model will be asked to judge what is measured."""
    changes: Changes | None = None
    """In diff mode: what has changed since the base."""
    churn: Mapping[str, int] | None = None
    """In diff mode: how many of the latest commits touched each file; null where nobody knows."""
    base_workspace: Callable[[], AbstractAsyncContextManager[Workspace]] | None = None
    """In diff mode: opens the base, without patches; null also where the target didn't exist then."""
    last: Callable[[], Awaitable[AgentResult | None]] = _nothing_before
    """This agent's latest completed result on the same project, from a run that had ended its step before
    this one began."""
    history: Callable[[], Awaitable[list[AgentHistory]]] = _no_history
    """What each agent took on the same project, in the steps that had ended before this run began."""
    allowed_hosts: frozenset[str] = frozenset()
    """`host` or `host:port` that agents may send requests to (`QE_ALLOWED_HOSTS`)."""
    order: Order = Order.RISK
    """What an agent that works through a list takes first."""

    @property
    def completed(self) -> Sequence[AgentResult]:
        """Earlier results whose measurements count: those of steps that came to their end."""
        return [result for result in self.earlier if result.status == "completed"]

    @property
    def of_item(self) -> Sequence[AgentResult]:
        """Completed results of the steps before this one on the same item; none outside of expansions."""
        _, slash, ordinal = self.step.partition("/")
        return [r for r in self.completed if slash and r.step.partition("/")[2] == ordinal]


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


class Learner(Protocol):
    """The part of a looped agent that lets its ways be chosen, and says what they gained."""

    def knows_issues(self, ctx: StepContext) -> bool:
        """Whether the agents before it have found some, so that it can work on those first."""
        ...

    async def features(self, ctx: StepContext, item: str, state: Digest, model: str) -> Features:
        """The state that the choice is made in."""
        ...

    async def question_by(
        self,
        ctx: StepContext,
        item: str,
        state: Digest,
        feedback: str | None,
        *,
        strategy: Strategy | None,
        recalled: str,
    ) -> Question[Any]:
        """What a model is asked by a strategy; `recalled` is text of what has worked, or empty."""
        ...

    async def draft_by(
        self, ctx: StepContext, item: str, state: Digest, strategy: Strategy
    ) -> tuple[BaseModel | None, str]:
        """A proposal by a strategy without a model, None when it has none; and what went wrong, or empty."""
        ...

    async def gains(self, ctx: StepContext, item: str, state: Digest) -> Gains:
        """What was measured of the item's rounds."""
        ...

    async def lessons(self, ctx: StepContext, item: str, state: Digest) -> list[KeptTest]:
        """What was kept for the item, to be recalled for similar ones."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a model is asked about a finding's evidence."""

    prompt: str
    """File under `prompts/`, without its ending."""
    response: type[BaseModel]
    package: str = OWN_PACKAGE
    """Importable package that has the `prompts` folder: an agent of your own names its own."""
    check: Callable[[StepContext, Any], None] | None = None
    """What `response` and its citations can't say.

    Raises ValueError for an answer that fits `response` and still can't be used; the model is then
    asked again, with the reason. Must tell the same of the same answer: it is asked again on a replay."""
    required: bool = False
    """The judgement is the agent's work: without a usable one its step fails."""


@dataclass(frozen=True)
class Measure:
    """A metric that an agent's measurement can carry.

    Args:
        name: Dotted, such as `coverage.line_percent`; conditions and thresholds use it.
        unit: Of its value, such as `tests` or `percent`.
        additive: Values of disjoint items can be summed: counts of what an item itself gave.
            Never a percentage, nor a total that each item's run counts again.
        relayed: Taken over from the results before: without another agent that measures it, there is none.
        limit: What a gate asks of it where the run's thresholds say nothing else.
        of_diff: It is about what has changed: there is none outside of diff mode.
    """

    name: str
    unit: str
    additive: bool = False
    relayed: bool = False
    limit: Limit | None = None
    of_diff: bool = False


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent of the fleet.

    Args:
        id: Durable name; stands in inputs, histories and memory keys.
        title: Short name for people, shown in the Temporal UI.
        purpose: One sentence for `qe agents`.
        tier: How demanding its questions are; the router picks a model by it.
        tools: Programs that measure. A `Tool` is one of the fleet's own environment, and may be missing; a
            plain name is a part of the fleet, or what it installs beside the target.
        measure: Runs the tools; never asks a model.
        memory_key: Where its latest result is remembered, under `aqe/`.
        memory_reads: What of its project's memory its model is shown: globs of keys, under `aqe/`.
        measures: What its measurement can carry; conditions are checked against it when a run starts.
        options: Type of its options, all with defaults.
        judgement: What a model is asked afterwards, if anything.
        loop: For agents that propose and try.
        learner: For those of them that have several ways to propose.
        gates: Its findings carry a decision.
    """

    id: str
    title: str
    purpose: str
    tier: Tier
    tools: tuple[Tool | str, ...]
    measure: Callable[[StepContext], Awaitable[Finding]]
    memory_key: str
    memory_reads: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    options: type[Model] = NoOptions
    judgement: Judgement | None = None
    loop: Loop | None = None
    learner: Learner | None = None
    gates: bool = False
