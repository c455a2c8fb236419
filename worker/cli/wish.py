"""What a `qe run` was asked for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qefleet.contracts.flows import FlowInput
from qefleet.contracts.runs import RunInput


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for."""

    pattern: str
    run_input: RunInput | FlowInput | None
    """None to attach to a run that is there."""
    workflow_id: str
    same: bool
    """The id is that of a commit: a run that goes on under it, or has ended well, is this one."""
    detach: bool
    as_json: bool
    apply_to: Path | None
    report: Path | None
    demo: bool
