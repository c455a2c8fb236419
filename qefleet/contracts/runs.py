"""What goes into a run and what comes out of it: the public input and result of every workflow."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.measured import ArtifactRef, Measurement
from qefleet.contracts.targets import Environment, Snapshot, Target

TASK_QUEUE = "qe-fleet"

AgentId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]


class Decision(StrEnum):
    """What the quality gate says."""

    GO = "GO"
    CONDITIONAL = "CONDITIONAL"
    NO_GO = "NO_GO"


class AgentSpec(Model):
    """One agent of a run; a bare string is its id."""

    agent: AgentId
    options: dict[str, Any] = {}
    """Checked against the agent's own options when the run opens."""
    on_failure: Literal["stop", "continue"] = "stop"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"agent": value} if isinstance(value, str) else value


class Thresholds(Model):
    """What the gate asks for. Null leaves a rule out; a number that wasn't measured fails its rule."""

    line_percent_min: Annotated[float, Field(ge=0, le=100)] | None = None
    branch_percent_min: Annotated[float, Field(ge=0, le=100)] | None = None
    failed_tests_max: Annotated[int, Field(ge=0)] | None = 0
    coverage_drop_max: Annotated[float, Field(ge=0, le=100)] | None = None
    """Percentage points of line coverage that may be lost between before and after; null: none, in a run
    that has an agent for coverage."""


class RunInput(Model):
    """What any workflow takes; a bare string is the target."""

    target: Target
    agents: Annotated[list[AgentSpec], Field(min_length=1, max_length=64)] | None = None
    thresholds: Thresholds = Thresholds()
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """The gateway refuses model calls once the run has spent this."""
    model: Annotated[str, Field(max_length=256)] | None = None
    """`provider/name`, `local` or `none`; the worker's `QE_MODEL` without it."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"target": value} if isinstance(value, str) else value


class PipelineInput(RunInput):
    """Agents one after the other; each sees the results of those before it."""


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
    """`agent#position`, unique in the run."""
    agent: AgentId
    status: Literal["completed", "failed"]
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
    usage: Usage = Usage()
    notes: list[str] = []
    error: StepError | None = None
    """Why the step failed; on a completed step, why no model has judged what was measured."""
    duration_s: float = 0.0


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
    notes: list[str] = []
