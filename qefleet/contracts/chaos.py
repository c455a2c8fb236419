"""Experiments on a system: what was done to it, what its probes saw, and whether it came back."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue

Fault = Literal["delay", "reset", "cut", "kill"]
"""`delay` holds back what is sent to a service; `reset` breaks connections to it; `cut` lets nothing through;
`kill` ends its process."""

Phase = Literal["before", "during", "after"]


class Sample(Model):
    """One probe's request."""

    t_s: float
    """When it was sent, since the experiment's first."""
    phase: Phase
    probe: str
    ms: float
    """Until the answer, or until it was given up."""
    wrong: str = ""
    """Why it doesn't show a steady state; empty where it does."""


class Record(Model):
    """What our program saw of one experiment."""

    id: str
    why: str = ""
    """Why the system couldn't be started; empty where it could."""
    samples: list[Sample] = []
    fault_s: float = 0.0
    """When the fault began."""
    healed_s: float = 0.0
    """From when on the system could recover: the fault's end, or the moment of a kill for good."""
    steady_again: bool = False
    """The last rounds of probes all showed a steady state."""
    stopped: bool = False
    """The fault was ended early: more probes failed than may."""


class Span(Model):
    """Samples of one probe in a row that came out the same."""

    phase: Phase
    probe: str
    from_s: float
    count: int
    median_ms: float
    wrong: str = ""


class PhaseFigures(Model):
    """A phase's samples in figures."""

    probes: int
    failed: int
    median_ms: float | None
    """Of the samples that showed a steady state; null where none did."""


class ExperimentResult(Model):
    """One experiment."""

    id: str
    fault: Fault
    service: str
    why_not: str = ""
    """Why it says nothing: the system didn't start, or wasn't steady before the fault."""
    before: PhaseFigures | None = None
    during: PhaseFigures | None = None
    after: PhaseFigures | None = None
    held: bool = False
    """The steady state held while the fault lasted."""
    recovered: bool = False
    recovery_s: float | None = None
    """From the fault's end to the first good answer after the last bad one; null where it didn't recover."""
    stopped: bool = False
    blast_radius_percent: float = 0.0
    """Share of the probes' requests that failed while the fault lasted."""
    blast_radius: list[str] = []
    """Probes that failed meanwhile."""
    timeline: list[Span] = []


class ChaosDetails(Model):
    """All that chaos-engineer found."""

    experiments: list[ExperimentResult] = []
    issues: list[Issue] = []
