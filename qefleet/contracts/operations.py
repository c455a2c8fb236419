"""An operation of a lionagi graph, as a durable step: one call of a Branch's method."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from qefleet.contracts.base import Model


class Operation(Model):
    """What a node of a lionagi graph does."""

    kind: Literal["communicate", "operate", "chat", "parse"]
    """The Branch's method."""
    parameters: dict[str, Any] = {}
    """As the method takes them, as JSON."""
    branch: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "main"
    """Name of the conversation that it goes on with."""
    inherit_context: bool = False
    """Starts from a copy of the first dependency's conversation."""
    system: Annotated[str, Field(max_length=100_000)] | None = None
    """The branch's system message, where this node is the first on it."""
