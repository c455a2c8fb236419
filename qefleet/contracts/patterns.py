"""What each pattern takes: one JSON object with defaults, or just the target as a string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from qefleet.contracts.base import Model
from qefleet.contracts.conditions import Condition
from qefleet.contracts.items import MAX_ITEMS, Item
from qefleet.contracts.runs import AgentSpec, Decision, GateApproval, RunInput

Agents = Annotated[list[AgentSpec], Field(max_length=64)]
Some = Annotated[list[AgentSpec], Field(min_length=1, max_length=64)]
Concurrency = Annotated[int, Field(ge=1, le=64)]
MaxItems = Annotated[int, Field(ge=1, le=MAX_ITEMS)]


def _agents(*ids: str, on_failure: Literal["stop", "continue"] = "stop") -> list[AgentSpec]:
    return [AgentSpec(agent=agent, on_failure=on_failure) for agent in ids]


class StepSpec(Model):
    """A step that a pattern asks for, to be checked against the catalogue when the run opens."""

    step: str
    spec: AgentSpec
    field: str
    """Where it stands in the input, such as `branches.0.agents.1`."""


def number_steps(groups: Mapping[str, Sequence[AgentSpec] | AgentSpec], start: int = 0) -> list[StepSpec]:
    """Name steps `agent#position`, counting through all groups.

    Args:
        groups: Agents by their place in the input, such as `branches.0.agents`.
        start: The first position.
    """
    found: list[tuple[str, AgentSpec]] = []
    for field, group in groups.items():
        if isinstance(group, AgentSpec):
            found.append((field, group))
        else:
            found += [(f"{field}.{number}", spec) for number, spec in enumerate(group)]
    return [
        StepSpec(step=f"{spec.agent}#{position}", spec=spec, field=field)
        for position, (field, spec) in enumerate(found, start=start)
    ]


class PipelineInput(RunInput):
    """Agents one after the other; each sees the results of those before it."""

    agents: Some = _agents("test-generator", "test-executor", "coverage-analyzer", "quality-gate")


class ParallelInput(RunInput):
    """Agents side by side; a failure loses no sibling's result."""

    agents: Some = _agents("test-executor", "coverage-analyzer")
    max_concurrent: Concurrency = 4
    then: Agents = _agents("quality-gate")
    """Run in order once all have ended; they see all results."""


class FanOutFanInInput(RunInput):
    """One agent splits the work, others work on each part, others bring it together."""

    split: AgentSpec = AgentSpec(agent="coverage-analyzer")
    """Its result lists the parts: for `coverage-analyzer`, the files with something uncovered."""
    workers: Some = _agents("test-generator")
    """Run one after the other on each part."""
    join: Agents = _agents("test-executor", "coverage-analyzer", "quality-gate")
    """Run in order on all that the workers gave."""
    max_concurrent: Concurrency = 4
    max_items: MaxItems = 64


class Source(Model):
    """Where an expansion's items come from."""

    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)] | None = None
    """The list itself; a list in place of this object is taken for it."""
    files: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """A glob over the target's files, such as `src/**/*.py`."""
    agent: AgentSpec | None = None
    """An agent whose result lists items."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"items": value} if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType] - checked by the field

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(given is not None for given in (self.items, self.files, self.agent)) != 1:
            raise ValueError("give exactly one of items, files, agent")
        ids = [item.id for item in self.items or []]
        if len(set(ids)) < len(ids):
            raise ValueError("items: two have the same id")
        return self


class ParallelExpansionInput(RunInput):
    """Agents on each item of a list that is known only at run time, many at once."""

    over: Source = Source(agent=AgentSpec(agent="coverage-analyzer"))
    agents: Some = _agents("test-generator")
    """Run one after the other on each item."""
    then: Agents = _agents("test-executor", "coverage-analyzer", "quality-gate")
    """Run in order on all that came of the items."""
    max_concurrent: Concurrency = 8
    """Items in work at once."""
    max_items: MaxItems = 10_000
    """A longer list is cut here, and the result says so."""


class ConditionalBranch(Model):
    """What is run when a condition holds."""

    when: Condition
    agents: Some


class ConditionalInput(RunInput):
    """Agents, then the first branch whose condition holds over their results."""

    agents: Some = _agents("test-executor", "coverage-analyzer")
    branches: Annotated[list[ConditionalBranch], Field(min_length=1, max_length=32)] = [
        ConditionalBranch.model_validate(
            {
                "when": {"and": ["tests.failed == 0", "coverage.line_percent < 90"]},
                "agents": ["test-generator", "test-executor", "coverage-analyzer"],
            }
        )
    ]
    otherwise: Agents = []
    """Run when no branch is taken."""
    then: Agents = _agents("quality-gate")
    """Run in any case, last."""


class HierarchicalInput(RunInput):
    """A commander decomposes a request into agents' tasks, which are run as child workflows."""

    request: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = (
        "Find out whether this package can be released, and add tests where they are missed most."
    )
    commander: AgentSpec = AgentSpec(agent="fleet-commander")
    max_depth: Annotated[int, Field(ge=1, le=3)] = 2
    """How deep a commander may hand parts of its request to commanders of its own."""
    max_tasks: Annotated[int, Field(ge=1, le=64)] = 16
    """Tasks in one plan; a longer plan is refused."""
    max_concurrent: Concurrency = 4
    then: Agents = _agents("quality-gate")
    """Run in order once all tasks have ended."""


class ReleaseInput(RunInput):
    """What a team looks at before a release: measured side by side, mended where tests are missed, gated."""

    measure: Some = _agents(
        "test-executor",
        "coverage-analyzer",
        "quality-analyzer",
        "code-complexity",
        "security-scanner",
        "requirements-validator",
        "regression-risk-analyzer",
        on_failure="continue",
    )
    """Run side by side; whatever fails among them, the gate says NO_GO."""
    hunt: Agents = _agents("flaky-test-hunter", on_failure="continue")
    """Run in order where `hunt_when` holds."""
    hunt_when: Condition = Condition.model_validate({"and": ["tests.failed == 0", "tests.errors == 0"]})
    """A red suite has to be mended first: it can't be told from a flaky one."""
    generate: Agents = _agents("test-generator", "test-executor", "coverage-analyzer", on_failure="continue")
    """Run in order where `generate_when` holds."""
    generate_when: Condition = Condition.model_validate(
        {
            "and": [
                "tests.failed == 0",
                "tests.errors == 0",
                {"or": ["coverage.line_percent < 80", "regression.uncovered_changes > 0"]},
            ]
        }
    )
    review: Agents = _agents("deployment-readiness", on_failure="continue")
    """Run in order on all that was found."""
    gate: Agents = _agents("quality-gate")
    max_concurrent: Concurrency = 3
    """Agents that measure at once."""
    approval: GateApproval | None = GateApproval(of=[Decision.CONDITIONAL])
    """A person is asked about a CONDITIONAL; null leaves it as it is."""
