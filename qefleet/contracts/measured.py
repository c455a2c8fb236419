"""Measurements: numbers that a tool gave, with the proof of where they come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from qefleet.contracts.base import Digest, Model


class ArtifactRef(Model):
    """Bytes that are kept in Postgres under their hash."""

    name: str
    """File name for people, such as `coverage.json`."""
    digest: Digest
    media_type: str
    size_bytes: int


class ToolRun(Model):
    """One run of a program that measures."""

    tool: str
    version: str
    argv: list[str]
    exit_code: int | None
    """Null when it was killed at its time limit."""
    duration_s: float
    artifact: ArtifactRef | None = None
    """The machine-readable output that was parsed."""
    log: ArtifactRef | None = None
    """The end of what it printed, kept when it failed."""
    problem: str = ""
    """Why its report doesn't count: it is missing, crashed, hung, or left nothing that can be read. A gate
    counts these (`tools.failed`)."""


class Measured(Model):
    """A number that a tool gave."""

    kind: Literal["measured"] = "measured"
    value: float
    unit: str
    tool: int
    """Index into the measurement's `tools`: the run that gave the number."""


class Unmeasured(Model):
    """A number that is not known, and why. A gate treats it as a failure."""

    kind: Literal["unmeasured"] = "unmeasured"
    reason: str


Metric = Annotated[Measured | Unmeasured, Field(discriminator="kind")]


class Measurement(Model):
    """What an agent's tools found. No model has touched it."""

    metrics: dict[str, Metric] = {}
    """By dotted name, such as `coverage.line_percent`; conditions and thresholds use these names."""
    tools: list[ToolRun] = []
    details: dict[str, Any] = {}
    """The agent's own typed result as JSON; its class is named in the agent's declaration."""

    def value(self, name: str) -> float | None:
        """The number under this name, or None where it wasn't measured."""
        metric = self.metrics.get(name)
        return metric.value if isinstance(metric, Measured) else None
