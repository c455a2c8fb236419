"""What an expansion runs over: a list that is known only at run time."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from qefleet.contracts.base import Model

MAX_ITEMS = 100_000

ItemId = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]+$")]


class Item(Model):
    """One part of the work; a bare string is its id."""

    id: ItemId
    """Unique in its list, such as a path, a requirement's id or an endpoint."""
    title: Annotated[str, StringConstraints(max_length=512)] = ""
    """For people; the id without it."""
    paths: Annotated[list[str], Field(max_length=256)] = []
    """Files of the project that it is about; an agent that can confine itself to them does."""
    data: dict[str, Any] = {}
    """Whatever else an agent needs to know about it, as JSON."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value

    @property
    def name(self) -> str:
        """For people."""
        return self.title or self.id


class ItemList(Model):
    """Names a stored list; its items are rows, so that no history carries them."""

    source: str
    """The step that gave it, or `over` for a list that stood in the input."""
    count: Annotated[int, Field(ge=0, le=MAX_ITEMS)]


class ItemPage(Model):
    """Some of a list's items, by name, for people who watch."""

    names: list[str]
