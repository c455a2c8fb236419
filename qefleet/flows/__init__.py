"""Flows that ship with the fleet, each a JSON document of its own, started by name."""

from __future__ import annotations

from importlib.resources import files

from pydantic import TypeAdapter

from qefleet.contracts.flows import FlowStep, check_steps
from qefleet.errors import InvalidInput

NAMES = ("canonical",)

_STEPS = TypeAdapter(list[FlowStep])


def shipped(name: str) -> list[FlowStep]:
    """The steps of a flow.

    Raises:
        InvalidInput: No such flow ships; the message names those that do.
    """
    if name not in NAMES:
        raise InvalidInput("flow", f"no such flow; known: {', '.join(NAMES)}")
    steps = _STEPS.validate_json(files("qefleet.flows").joinpath(f"{name}.json").read_text("utf-8"))
    check_steps(steps)
    return steps


def all_shipped() -> dict[str, list[FlowStep]]:
    """Every flow by its name."""
    return {name: shipped(name) for name in NAMES}
