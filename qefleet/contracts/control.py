"""What a person says to a run that goes on: updates and signals."""

from __future__ import annotations

from datetime import datetime

from qefleet.contracts.base import Model


class ApprovalAnswer(Model):
    """Who approves or rejects, and why. Emptiness is refused by the update itself, with a sentence."""

    by: str = ""
    why: str = ""
    step: str | None = None
    """Which of the steps that wait; not needed when one does."""


class StepName(Model):
    """Names a step of the run, for `cancel_agent`."""

    step: str = ""
    by: str = ""
    why: str = ""


class Asked(Model):
    """A question that waits for a person."""

    step: str
    """The step that waits; `decision` for the gate's decision."""
    question: str
    since: datetime
    until: datetime
    on_timeout: str


class ExpansionProgress(Model):
    """How far an expansion is, as it tells its parent."""

    steps: list[str]
    headline: str
