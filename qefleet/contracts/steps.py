"""What passes between a workflow and its activities while agents work.

Everything here is small and of constant size: references to rows and artifacts, never their content,
so that a run's history does not grow with its diffs, logs or conversations.
"""

from __future__ import annotations

from typing import Any

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.measured import ArtifactRef, Measurement
from qefleet.contracts.runs import AgentId, AgentResult, Decision, RunInput, Usage


class RunRef(Model):
    """Names a run.

    `run` is the *first* execution's run id: it survives `temporal workflow reset`, so what was paid
    for and measured under it is found again.
    """

    run: str
    workflow_id: str


class OpenRun(RunRef):
    """Asks for a run to be checked against the catalogue and entered in the database."""

    pattern: str
    input: RunInput


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


class Plan(Model):
    """A checked run: what will be done, and by which model."""

    target: str
    model: str
    steps: list[StepPlan]
    notes: list[str] = []

    @property
    def uses_model(self) -> bool:
        """Whether a model is asked at all."""
        return self.model != "none"


class StepRef(RunRef):
    """Names a step, and the steps whose results and patches it builds on, in order."""

    step: str
    earlier: list[str] = []


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
    state: Digest | None = None
    """Artifact with the loop's state, to be passed to the first trial."""


class Round(StepRef):
    """One round of a loop: propose something for this item, then try it."""

    item: str
    round: int
    state: Digest
    feedback: Digest | None = None
    """Artifact: what was wrong with the proposal of the round before."""


class Answer(Model):
    """A proposal or a judgement, as received and parsed."""

    content: Digest | None
    """Artifact with it as JSON; null when there was nothing to propose."""
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


class CloseRun(RunRef):
    """Asks for a run's report, from what was recorded."""

    steps: list[str]
    decision: Decision | None
    notes: list[str]
    failed: bool = False


class Closed(Model):
    """A run's report and patch."""

    report: ArtifactRef
    patch: ArtifactRef | None
    usage: Usage
