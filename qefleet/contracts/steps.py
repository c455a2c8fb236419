"""What passes between a workflow and its activities while agents work.

Everything here is small and of constant size: references to rows and artifacts, never their content,
so that a run's history does not grow with its diffs, logs or conversations.
"""

from __future__ import annotations

from typing import Any

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.conditions import Condition, Evaluation
from qefleet.contracts.flows import FlowStep
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.learning import Policy, Strategy, Tier
from qefleet.contracts.measured import ArtifactRef, Measurement
from qefleet.contracts.operations import Operation
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.runs import (
    AgentId,
    AgentResult,
    Approval,
    ApprovalRecord,
    CommonInput,
    Decision,
    GateApproval,
    StepError,
    Usage,
)


class RunRef(Model):
    """Names a run.

    `run` is the *first* execution's run id: it survives `temporal workflow reset`, so what was paid
    for and measured under it is found again.
    """

    run: str
    workflow_id: str


class ConditionCheck(Model):
    """A condition of the input, to be checked against what its steps measure."""

    field: str
    """Its path in the input, such as `branches.0.when`."""
    condition: Condition
    steps: list[str]
    """Names of the steps that may have ended when it is asked."""


class OpenRun(RunRef):
    """Asks for a run to be checked against the catalogue and entered in the database."""

    pattern: str
    input: CommonInput
    steps: list[StepSpec] = []
    conditions: list[ConditionCheck] = []
    flow: str | None = None
    """Name of a flow that ships with the fleet, in place of `steps`."""
    flow_steps: list[FlowStep] | None = None
    """A flow of the user's own, in place of `steps`."""


class StepPlan(Model):
    """How one agent will be run."""

    step: str
    agent: AgentId
    title: str
    on_failure: str
    looped: bool
    """Proposes and tries, in rounds, after measuring."""
    max_rounds: int = 1
    max_minutes: float | None = None
    """The loop takes no new item once this has passed."""
    options: dict[str, Any] = {}
    """As asked for; checked."""
    timeout_minutes: float | None = None
    budget_usd: float | None = None
    """What its model calls may cost; the gateway reads it here."""
    approval: Approval | None = None
    needs_judgement: bool = False
    """Fails where a model was asked and gave nothing usable: the judgement is its work."""
    policy: Policy = Policy.OFF
    """How strategies are chosen for the items of its loop; `off` for an agent that has no choice."""
    operation: Operation | None = None
    """For a node of a lionagi graph: what it does in place of measuring."""


class Plan(Model):
    """A checked run: what will be done, and by which model."""

    target: str
    model: str
    steps: list[StepPlan]
    notes: list[str] = []
    approval: GateApproval | None = None
    flow: list[FlowStep] = []
    """The flow's steps, those left out where the fleet has no such agent."""
    priority: int = 3
    fairness_key: str = ""
    """Runs of one target share it, so that they take turns with those of others."""
    looks_at_target: bool = True

    @property
    def uses_model(self) -> bool:
        """Whether a model is asked at all."""
        return self.model != "none"


class AddSteps(RunRef):
    """Asks for steps that became known only now to be checked and added to the run's plan."""

    steps: list[StepSpec]


class AddedSteps(Model):
    """Steps as planned, in the order in which they were asked for."""

    steps: list[StepPlan]


class StepRef(RunRef):
    """Names a step, and the steps whose results and patches it builds on, in order."""

    step: str
    """As planned; with `/ordinal` for one item of an expansion."""
    earlier: list[str] = []
    """As planned: an expansion's name stands for all of its items."""
    items: str | None = None
    """The list that the item is from, for an item of an expansion."""

    @property
    def planned(self) -> str:
        """The step's name in the plan."""
        return self.step.partition("/")[0]

    @property
    def ordinal(self) -> int | None:
        """The item's place in its list; None outside of expansions."""
        _, slash, ordinal = self.step.partition("/")
        return int(ordinal) if slash else None


class StoreItems(RunRef):
    """Asks for an expansion's list to be written down; the first list of a name stands."""

    source: str
    items: list[Item] | None = None
    files: str | None = None
    """A glob over the snapshot's files."""


class PageOfItems(RunRef):
    """Asks for some of a list's items."""

    source: str
    first: int
    count: int


class SumUp(RunRef):
    """Asks for the one result of an expansion's step, from what was recorded of its items."""

    step: str
    items: ItemList
    cut: int = 0
    """Items of the list that were over `max_items`."""
    duration_s: float = 0.0
    error: StepError | None = None
    """Why the expansion ended before its list did."""


class SumUpResult(Model):
    """An expansion's result, as recorded."""

    result: AgentResult


class RecordApproval(RunRef):
    """Asks for what a person said to be kept in memory."""

    approval: ApprovalRecord


class WorkItem(Model):
    """One thing that a looped agent works on, such as an under-covered function."""

    id: str
    title: str


class Finding(Model):
    """What measuring gave."""

    measurement: Measurement
    headline: str
    decision: Decision | None = None
    artifacts: list[ArtifactRef] = []
    patch: Digest | None = None
    notes: list[str] = []
    evidence: Digest | None = None
    """Artifact with what a model is to judge; without it no call is made."""
    work: list[WorkItem] = []
    """For looped agents, the most rewarding first."""
    items: ItemList | None = None
    """Parts of the work, for an expansion to run over."""
    state: Digest | None = None
    """Artifact with the loop's state, to be passed to the first trial."""


class Round(StepRef):
    """One round of a loop: propose something for this item, then try it."""

    item: str
    round: int
    state: Digest
    feedback: Digest | None = None
    """Artifact: what was wrong with the proposal of the round before."""
    strategy: Strategy | None = None
    """How to come by a proposal; null does as the agent does where nothing is learned."""
    tier: Tier | None = None
    """Whose model is asked; null: the agent's own."""


class Answer(Model):
    """A proposal or a judgement, as received and parsed."""

    content: Digest | None
    """Artifact with it as JSON; null when there was nothing to propose."""
    note: str = ""
    """What went wrong where a tool was to propose; empty when all went well."""
    usage: Usage = Usage()


class Judge(StepRef):
    """Asks a model to judge the evidence of a finding."""

    evidence: Digest


class Trial(Round):
    """Asks for a proposal to be tried."""

    answer: Digest


class Verdict(Model):
    """What a trial gave."""

    state: Digest
    kept: int
    rejected: dict[str, int] = {}
    """Number of rejections by filter."""
    feedback: Digest | None = None
    done: bool
    """Nothing more is to be gained from this item."""
    headline: str


class ChooseStrategy(StepRef):
    """Asks for a strategy for an item; the first choice stands, however often it is asked for."""

    item: str
    position: int
    """Of the item among the step's."""
    state: Digest
    """The loop's."""


class ChooseDepth(ChooseStrategy):
    """Asks whether another round is worth it for an item; the first answer stands."""

    round: int
    """The one that would come next."""
    kept: int
    """Tests that were kept for the item so far."""


class RewardStrategy(StepRef):
    """Asks for an item's reward to be taken from what was measured, and learnt from, once."""

    item: str
    position: int
    state: Digest
    """The loop's, after the item."""


class Conclude(StepRef):
    """Asks a looped agent for its final measurement."""

    state: Digest
    notes: list[str] = []


class RecordStep(RunRef):
    """Asks for a step's result to be written down: result, memory and trajectory, once."""

    result: AgentResult
    judgement: Digest | None = None
    """Artifact with the model's judgement."""


class Recorded(Model):
    """What recording adds to a result."""

    usage: Usage
    """From the ledger."""
    judged: dict[str, Any] | None = None
    """Left out for an item of an expansion: it is in the database."""


class CloseRun(RunRef):
    """Asks for a run's report, from what was recorded."""

    steps: list[str]
    decision: Decision | None
    notes: list[str]
    failed: bool = False
    cancelled: bool = False
    approvals: list[ApprovalRecord] = []
    evaluations: list[Evaluation] = []


class Closed(Model):
    """A run's report and patch, and what else is kept of its end."""

    report: ArtifactRef
    patch: ArtifactRef | None
    usage: Usage
    approvals: list[ApprovalRecord] = []
    evaluations: list[str] = []
