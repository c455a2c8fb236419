"""What goes into a run and what comes out of it: the public input and result of every workflow."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.items import ItemList
from qefleet.contracts.learning import Policy
from qefleet.contracts.measured import ArtifactRef, Measurement
from qefleet.contracts.targets import Environment, Snapshot, Target

TASK_QUEUE = "qe-fleet"

AgentId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]


MetricName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$", max_length=128)]
"""Dotted, such as `coverage.line_percent`."""

GitRef = Annotated[str, StringConstraints(pattern=r"^[^-\x00][^\x00]*$", max_length=256)]


Usd = Annotated[float, Field(gt=0, le=1_000_000)]


class Decision(StrEnum):
    """What the quality gate says."""

    GO = "GO"
    CONDITIONAL = "CONDITIONAL"
    NO_GO = "NO_GO"


StepName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z][a-z0-9_-]*(\.[a-z0-9-]+)?(#[0-9]{1,4})?(/[0-9]{1,6})?$", max_length=192
    ),
]
"""`agent#position`, or the id of a flow's step; with `/ordinal` for one item of an expansion."""

StepStatus = Literal["completed", "failed", "cancelled", "skipped"]


class Approval(Model):
    """Waits for a person's `approve` or `reject`; `true` takes the defaults."""

    timeout_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 72.0
    on_timeout: Literal["approve", "reject"] = "reject"
    question: Annotated[str, Field(max_length=1000)] = ""
    """What the person is asked; shown in the Temporal UI."""

    @model_validator(mode="before")
    @classmethod
    def _from_true(cls, value: Any) -> Any:
        return {} if value is True else value


class GateApproval(Approval):
    """Waits for a person before the gate's decision is final."""

    of: Annotated[list[Decision], Field(min_length=1)] = [Decision.GO, Decision.CONDITIONAL]
    """Decisions that a person is asked about; any other is final at once."""


class AgentSpec(Model):
    """One agent of a run; a bare string is its id."""

    agent: AgentId
    options: dict[str, Any] = {}
    """Checked against the agent's own options when the run opens."""
    on_failure: Literal["stop", "continue"] = "stop"
    timeout_minutes: Annotated[float, Field(gt=0, le=60 * 24 * 30)] | None = None
    """The step fails with `TimedOut` once it has taken this long."""
    budget_usd: Usd | None = None
    """The gateway refuses the step's model calls, those of all its items, once they have cost this."""
    approval: Approval | None = None
    """A person is asked before the agent is run."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"agent": value} if isinstance(value, str) else value


class Limit(Model):
    """What a gate asks of one metric; a number that wasn't measured fails it, whatever its severity."""

    max: Annotated[float, Field(allow_inf_nan=False)] | None = None
    min: Annotated[float, Field(allow_inf_nan=False)] | None = None
    severity: Literal["hard", "soft"] = "hard"
    """Beyond a hard limit the decision is NO_GO, beyond a soft one CONDITIONAL."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("give max, min or both")
        return self


class Thresholds(Model):
    """What the gate asks for. Null leaves a rule out; a number that wasn't measured fails its rule."""

    line_percent_min: Annotated[float, Field(ge=0, le=100)] | None = None
    branch_percent_min: Annotated[float, Field(ge=0, le=100)] | None = None
    failed_tests_max: Annotated[int, Field(ge=0)] | None = 0
    failed_steps_max: Annotated[int, Field(ge=0)] | None = 0
    """Earlier steps, and items of expansions, that failed or were cancelled."""
    failed_tools_max: Annotated[int, Field(ge=0)] | None = 0
    """Tools of completed steps that were missing, crashed, hung, or left nothing that can be read."""
    coverage_drop_max: Annotated[float, Field(ge=0, le=100)] | None = None
    """Percentage points of line coverage that may be lost between before and after; null: none, in a run
    that has an agent for coverage."""
    metrics: dict[MetricName, Limit | None] = {}
    """Limits on any metric of the run's agents, such as `{"security.high": {"max": 2}}`, in place of those
    that the agents declare; null leaves one out."""


class RunOptions(Model):
    """What any run can be given, whatever it looks at."""

    thresholds: Thresholds = Thresholds()
    budget_usd: Usd | None = None
    """The gateway refuses model calls once the run has spent this."""
    model: Annotated[str, Field(max_length=256)] | None = None
    """`provider/name`, `local` or `none`; the worker's `QE_MODEL` without it."""
    approval: GateApproval | None = None
    """A person is asked before the gate's decision is final."""
    base: GitRef | None = None
    """Diff mode: only what changed since this commit, branch or tag of the target's repository is gated."""
    policy: Policy | None = None
    """How strategies are chosen where several ways exist: `learned`, `off`, or a strategy that is followed
    everywhere; the worker's `QE_LEARNING` without it."""
    policy_seed: int | None = None
    """What chance is drawn from while exploring; the run's id without it."""
    priority: Annotated[int, Field(ge=1, le=5)] = 3
    """1 goes before 5 where tasks wait for a worker; among equals, targets take turns."""


class RunInput(RunOptions):
    """What any workflow takes; a bare string is the target."""

    target: Target

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"target": value} if isinstance(value, str) else value


class CommonInput(RunOptions):
    """The part of any workflow's input that is not its pattern's own."""

    target: Target | None = None
    """Null where a run looks at nothing: a flow of lionagi's operations alone."""


class Usage(Model):
    """What a step or a run asked of models."""

    calls: int = 0
    """Answers bought from a provider."""
    replayed_calls: int = 0
    """Answers taken from the ledger: paid for before, not again."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    """Null when a call's model has no known price."""

    def __add__(self, other: Usage) -> Usage:
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            calls=self.calls + other.calls,
            replayed_calls=self.replayed_calls + other.replayed_calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
        )


class StepError(Model):
    """Why a step failed."""

    type: str
    """Name of the error's class, such as `BudgetExceeded`."""
    message: str
    attempts: int = 1


class AgentResult(Model):
    """What one agent did: what its tools measured, kept apart from what a model judged."""

    step: str
    """Unique in the run, see `StepName`."""
    agent: AgentId
    status: StepStatus
    headline: str = ""
    """One line for people: the figure that matters most."""
    decision: Decision | None = None
    """Only from agents that gate."""
    measured: Measurement = Measurement()
    judged: dict[str, Any] | None = None
    """The model's typed judgement; null when no model was asked. `notes` says why."""
    artifacts: list[ArtifactRef] = []
    patch: Digest | None = None
    """A unified diff that the later steps' workspaces contain."""
    items: ItemList | None = None
    """Parts of the work that it found, for an expansion to run over."""
    usage: Usage = Usage()
    notes: list[str] = []
    error: StepError | None = None
    """Why the step failed; on a completed step, why no model has judged what was measured."""
    duration_s: float = 0.0


class ApprovalRecord(Model):
    """What a person said, or that nobody did in time: the audit trail of a run."""

    step: str
    """The step that waited; `decision` for the gate's decision."""
    verdict: Literal["approved", "rejected"]
    by: str
    """As the person named themself; `timeout` when nobody answered in time."""
    why: str
    asked_at: datetime
    answered_at: datetime

    @property
    def sentence(self) -> str:
        """Such as `approved by ada: read the report`."""
        return f"{self.verdict} by {self.by}" + (f": {self.why}" if self.why else "")


class RunResult(Model):
    """What a workflow returns."""

    decision: Decision | None = None
    """Null where no agent gates."""
    target: str
    snapshot: Snapshot | None = None
    environment: Environment | None = None
    model: str
    """`provider/name`, `local` or `none`."""
    steps: list[AgentResult] = []
    usage: Usage = Usage()
    report: ArtifactRef | None = None
    patch: ArtifactRef | None = None
    """All that the agents propose to change, as one unified diff."""
    approvals: list[ApprovalRecord] = []
    """Whom the run has asked, and what they said."""
    evaluations: list[str] = []
    """How each condition came out, and what it was told from."""
    notes: list[str] = []
