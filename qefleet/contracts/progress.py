"""What the `progress` query answers while a run goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.control import Asked
from qefleet.contracts.runs import AgentId, Decision


class StepProgress(Model):
    """One line of the table that a person watches."""

    step: str
    agent: AgentId
    status: Literal["waiting", "running", "completed", "failed", "cancelled", "skipped"]
    headline: str = ""
    """The figure that matters most so far, or what is being done."""
    calls: int = 0
    cost_usd: float | None = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Progress(Model):
    """How far a run is."""

    phase: str
    """`opening`, `snapshot`, `environment`, an agent's id, `report`, or `done`."""
    target: str
    model: str | None = None
    decision: Decision | None = None
    paused: bool = False
    asked: list[Asked] = []
    """What waits for a person's `approve` or `reject`."""
    steps: list[StepProgress] = []
    notes: list[str] = []
