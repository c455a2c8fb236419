"""An agent's typed details, out of its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from qefleet.contracts.base import Model
from qefleet.contracts.runs import AgentResult

M = TypeVar("M", bound=Model)


def latest_details(steps: Sequence[AgentResult], agent: str, kind: type[M]) -> M | None:
    """The latest; None where there are none, or only the sum of an expansion's items."""
    for step in reversed(steps):
        if step.agent == agent and step.measured.details:
            try:
                return kind.model_validate(step.measured.details)
            except ValidationError:
                continue
    return None
