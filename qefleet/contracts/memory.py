"""Memory as workflows reach it: what the activities of `MemoryPort` take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from qefleet.contracts.base import Model

VALUE_MAX_BYTES = 1_000_000
"""Of the values that one activity takes or gives, as JSON: Temporal refuses payloads of two million."""


class MemoryOf(Model):
    """Names a project's memory."""

    project: str
    partition: str = "default"


class MemoryKey(MemoryOf):
    """Names an entry."""

    key: str


class StoreEntry(MemoryKey):
    """Asks for a value to be written."""

    value: JsonValue
    ttl_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds until it expires, by the database's clock; never without it."""
    expected_version: Annotated[int, Field(ge=0)] | None = None
    """Write over this version only, 0 where there is to be none; over any without it."""


class SearchEntries(MemoryOf):
    """Asks for entries by their keys."""

    glob: str
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    after: str | None = None
    """Go on behind this key."""


class RecallEntries(MemoryOf):
    """Asks for the entries that are nearest to a text."""

    text: str
    k: Annotated[int, Field(ge=1, le=1_000)] = 5


class Remembered(Model):
    """An entry."""

    key: str
    value: JsonValue
    version: int
    updated_at: datetime
    score: float | None = None
    """How near it is, where a text was recalled."""


class Entries(Model):
    """What was found."""

    entries: list[Remembered]
    by: Literal["keys", "vectors", "words"] = "keys"
    reason: str | None = None
    """Why a text was recalled by words."""


class Stored(Model):
    """Where a value stands now."""

    version: int | None
    """Null: the key has another version than the expected one, and nothing was written."""


class Deleted(Model):
    """Whether there was such a key."""

    deleted: bool
