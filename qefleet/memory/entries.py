"""What agents and people remember: JSON values under keys such as `aqe/coverage/gaps`."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

import asyncpg

from qefleet.contracts.base import Model
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_LAST = "\U0010ffff"


class Entry(Model):
    """A remembered value."""

    partition: str
    key: str
    value: Any
    version: int
    """Rises by one with each change."""
    updated_at: datetime
    expires_at: datetime | None
    run_id: str | None
    """The run that wrote it; null when a person did."""
    step: str | None


class Memory:
    """Reads and writes remembered values.

    Args:
        pool: As `open_pool` gives it.
        partition: Separate from all others.
    """

    def __init__(self, pool: asyncpg.Pool, *, partition: str = "default") -> None:
        self._pool = pool
        self._partition = partition
        self._sql = parse_queries(files("qefleet.memory").joinpath("entries.sql").read_text("utf-8"))

    async def store(self, key: str, value: Any, *, ttl: timedelta | None = None) -> int:
        """Write a JSON value, by the database's clock for `ttl`; returns its version.

        Not retried: a write that was lost from view may have happened, and would count twice.
        """
        return await self._pool.fetchval(self._sql["store_entry"], self._partition, key, value, ttl)

    async def retrieve(self, key: str) -> Entry | None:
        """The value under this key, unless there is none or it has expired."""
        row = await retrying(lambda: self._pool.fetchrow(self._sql["retrieve_entry"], self._partition, key))
        return Entry.model_validate(dict(row)) if row else None

    async def search(self, glob: str, *, limit: int = 100) -> list[Entry]:
        """Entries whose key matches, by key: `*` stands for any text, `?` for one character."""
        low, high = prefix_bounds(glob)
        rows = await retrying(
            lambda: self._pool.fetch(
                self._sql["search_entries"], self._partition, low, high, like_pattern(glob), limit
            )
        )
        return [Entry.model_validate(dict(row)) for row in rows]

    async def delete(self, key: str) -> bool:
        """Take a key away; whether it was there."""
        return bool(await self._pool.fetchval(self._sql["delete_entry"], self._partition, key))


def like_pattern(glob: str) -> str:
    """The glob as SQL's LIKE reads it, whose own wildcards become plain characters first."""
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def prefix_bounds(glob: str) -> tuple[str, str | None]:
    """First key that can match, and a key beyond all that can; None when nothing is.

    The comparison is by code point (the column's collation is "C").
    """
    literal = min((glob.partition(wildcard)[0] for wildcard in "*?"), key=len)
    if not literal:
        return "", None
    if literal == glob:
        return literal, None
    head, last = literal[:-1], literal[-1]
    if last == _LAST:
        return literal, None
    following = chr(ord(last) + 1)
    return literal, head + ("\ue000" if "\ud800" <= following <= "\udfff" else following)
