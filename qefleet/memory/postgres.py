"""The memory in Postgres: by project through row-level security, by the database's clock, with history.

A `PostgresMemory` sees one project; `projects` tells which there are.
"""

from __future__ import annotations

import json
import random
import re
from asyncio import sleep
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

import asyncpg

from qefleet.errors import InvalidInput
from qefleet.memory.embedding import NO_VECTORS, Embedder, entry_text
from qefleet.memory.globs import beyond, glob_bounds, like_pattern
from qefleet.memory.portable import Portable
from qefleet.memory.protocol import (
    HISTORY_MAX,
    PARTITION,
    PROJECT,
    Entry,
    Match,
    Recall,
    Record,
    Stats,
    Swept,
    Version,
)
from qefleet.memory.ranking import NO_EMBEDDER
from qefleet.memory.values import (
    WORDS_MAX,
    check_key,
    check_name,
    check_ttl,
    from_bytes,
    to_bytes,
    to_json,
    words_in,
    words_of,
)
from qefleet.sql.database import encode_json, retrying
from qefleet.sql.queries import parse_queries

IN_FLIGHT = timedelta(minutes=1)
"""How long a transaction may take from writing to its end, and still be seen by who has caught up."""
CATCH_UP = 256
"""Vectors that one recall makes at most of what has none yet."""
NO_PGVECTOR = "the database has no pgvector: let its owner install it, then `qe migrate`"

_SQL = parse_queries(files("qefleet.memory").joinpath("postgres.sql").read_text("utf-8"))
_INEXACT = re.compile(r"\\u0000|[0-9][eE]\+?[0-9]|-0\.0")
"""What JSONB refuses or changes: NUL; floats from 1e16 on, which come back as integers; the sign of zero."""
_ALL = 2**31


class PostgresMemory(Portable):
    """A `Memory` in Postgres.

    Args:
        pool: As `open_pool` gives it.
        project: Whose it is.
        embedder: Makes vectors for `recall`.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, project: str = PROJECT, embedder: Embedder | None = None
    ) -> None:
        self._pool = pool
        self._project = check_name(project, field="project")
        if project == "*":
            raise InvalidInput("project", "* is all projects; name one")
        self._embedder = embedder
        self._caught_up: dict[str, datetime] = {}

    @property
    def project(self) -> str:
        """Whose it is."""
        return self._project

    @property
    def embedder(self) -> Embedder | None:
        """What makes its vectors."""
        return self._embedder

    async def store(
        self, key: str, value: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """See `Memory.store`. Not retried: a write that was lost from view may have happened."""
        return await self._pool.fetchval(_SQL["store_entry"], *self._written(partition, key, value, ttl))

    async def retrieve(self, key: str, *, partition: str = PARTITION) -> Entry | None:
        """See `Memory.retrieve`."""
        rows = await self._read("retrieve_entry", check_name(partition, field="partition"), check_key(key))
        return self._entry(partition, rows[0]) if rows else None

    async def search(
        self, glob: str, *, partition: str = PARTITION, limit: int = 100, after: str | None = None
    ) -> list[Entry]:
        """See `Memory.search`."""
        if not _sayable(glob):
            return []
        low, high = glob_bounds(glob)
        rows = await self._read(
            "search_entries",
            check_name(partition, field="partition"),
            low,
            high,
            like_pattern(glob),
            limit,
            after,
        )
        return [self._entry(partition, row) for row in rows]

    async def find(self, text: str, *, partition: str = PARTITION, limit: int = 20) -> list[Match]:
        """See `Memory.find`."""
        question = words_in(text)
        # Words are letters and digits: between quotes they are nothing but words to Postgres.
        lexemes = [f"'{word}'" for word in question]
        rows = await self._read(
            "find_entries", check_name(partition, field="partition"), " | ".join(lexemes), limit, lexemes
        )
        return [Match(entry=self._entry(partition, row), score=row["hits"] / len(question)) for row in rows]

    async def recall(self, text: str, k: int = 5, *, partition: str = PARTITION) -> Recall:
        """See `Memory.recall`; exact, and after some vectors were made where they are missing."""
        if self._embedder is None:
            reason = NO_EMBEDDER
        elif not await retrying(lambda: self._pool.fetchval(_SQL["has_vectors"], column=1)):
            reason = NO_PGVECTOR
        else:
            try:
                return await self._nearest(self._embedder, text, k, check_name(partition, field="partition"))
            except NO_VECTORS as error:
                reason = str(error)
        matches = await self.find(text, partition=partition, limit=k)
        return Recall(by="words", reason=reason, matches=matches)

    async def embed(self, *, partition: str = PARTITION, limit: int = CATCH_UP) -> int:
        """Make vectors of entries that have none, so many at most; how many were made."""
        if self._embedder is None:
            return 0
        now = await retrying(lambda: self._pool.fetchval(_SQL["has_vectors"]))
        since = self._caught_up.get(partition)
        rows = await self._read(
            "without_vector", check_name(partition, field="partition"), self._embedder.model, limit, since
        )
        if len(rows) < limit:
            self._caught_up[partition] = now - IN_FLIGHT
        if not rows:
            return 0
        texts = [entry_text(row["key"], to_json(row["key"], _value(row))) for row in rows]
        vectors = await self._embedder.embed(texts)
        kept = [
            (self._project, partition, row["key"], self._embedder.model, row["version"], vector)
            for row, vector in zip(rows, vectors, strict=True)
        ]
        await retrying(lambda: self._pool.executemany(_SQL["keep_vectors"], kept))
        return len(rows)

    async def delete(self, key: str, *, partition: str = PARTITION) -> bool:
        """See `Memory.delete`."""
        return bool(
            await self._write("delete_entry", check_name(partition, field="partition"), check_key(key))
        )

    async def clear_partition(self, partition: str) -> int:
        """See `Memory.clear_partition`."""
        return await self._write("clear_partition", check_name(partition, field="partition"))

    async def list_keys(
        self, prefix: str = "", *, partition: str = PARTITION, limit: int | None = None
    ) -> list[str]:
        """See `Memory.list_keys`."""
        return list(await self.versions(prefix, partition=partition, limit=limit))

    async def stats(self) -> Stats:
        """See `Memory.stats`."""
        rows = await self._read("stats")
        return Stats(
            entries=sum(row["live"] for row in rows),
            partitions={row["partition"]: row["live"] for row in rows if row["live"]},
            expired=sum(row["expired"] for row in rows),
            versions=sum(row["versions"] for row in rows),
        )

    async def compare_and_set(
        self,
        key: str,
        value: Any,
        *,
        expected: int | None,
        ttl: timedelta | None = None,
        partition: str = PARTITION,
    ) -> int | None:
        """See `Memory.compare_and_set`. Not retried, as `store`."""
        written = self._written(partition, key, value, ttl)
        if expected is None:
            return await self._pool.fetchval(_SQL["create_entry"], *written)
        return await self._write("replace_entry", *written[1:], expected, False)

    async def append(
        self, key: str, item: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """See `Memory.append`. Not retried, as `store`."""
        project, partition, key, text, exact, words, ttl = self._written(partition, key, item, ttl)
        while True:
            if exact is None:
                version = await self._pool.fetchval(
                    _SQL["append_item"], project, partition, key, text, words, ttl, WORDS_MAX
                )
                if version is not None:
                    return version
            # What JSONB can't hold exactly is added here, over the version that was read.
            entry = await self.retrieve(key, partition=partition)
            items: Any = entry.value if entry else []
            if not isinstance(items, list):
                raise InvalidInput("append", f"what is under {key!r} isn't a list")
            version = await self._replace(
                entry, [*items, json.loads(to_json(key, item))], key, partition, ttl
            )
            if version is not None:
                return version
            await sleep(random.uniform(0, 0.02))  # noqa: S311 - jitter, not a secret

    async def history(
        self, key: str, *, partition: str = PARTITION, limit: int = HISTORY_MAX
    ) -> list[Version]:
        """See `Memory.history`."""
        rows = await self._read(
            "history", check_name(partition, field="partition"), check_key(key), min(limit, HISTORY_MAX)
        )
        return [
            Version(
                version=row["version"],
                value=_value(row),
                written_at=row["written_at"],
                run_id=row["run_id"],
                step=row["step"],
            )
            for row in rows
        ]

    async def sweep(self, *, keep: timedelta = timedelta(days=30), limit: int = 10_000) -> Swept:
        """See `Memory.sweep`."""
        expired = await self._write("sweep_entries", limit)
        left = limit - expired
        versions = await self._write("sweep_history", keep, left) if left else 0
        return Swept(expired=expired, versions=versions, more=expired + versions == limit)

    async def versions(self, prefix: str, *, partition: str, limit: int | None = None) -> dict[str, int]:
        """See `Portable.versions`; in the order of keys."""
        if not _sayable(prefix):
            return {}
        rows = await self._read(
            "list_keys",
            check_name(partition, field="partition"),
            prefix,
            beyond(prefix),
            _ALL if limit is None else limit,
        )
        return {row["key"]: row["version"] for row in rows}

    async def restore(self, record: Record) -> bool:
        """See `Portable.restore`."""
        written = self._written(record.partition, record.key, record.value, None)[:-1]
        version = await self._pool.fetchval(
            _SQL["restore_entry"], *written, record.created_at, record.expires_at
        )
        return version is not None

    async def _replace(
        self, entry: Entry | None, items: list[Any], key: str, partition: str, ttl: timedelta | None
    ) -> int | None:
        if entry is None:
            return await self.compare_and_set(key, items, expected=None, ttl=ttl, partition=partition)
        written = self._written(partition, key, items, ttl)[1:]
        return await self._write("replace_entry", *written, entry.version, ttl is None)

    async def _nearest(self, embedder: Embedder, text: str, k: int, partition: str) -> Recall:
        made = await self.embed(partition=partition)
        (question,) = await embedder.embed([text])
        rows = await self._read("nearest_entries", partition, embedder.model, question, k)
        waiting = 0
        if made == CATCH_UP:
            missing = await self._read("without_vector", partition, embedder.model, _ALL, None)
            waiting = len(missing)
        matches = [Match(entry=self._entry(partition, row), score=1 - row["distance"]) for row in rows]
        return Recall(by="vectors", reason=None, matches=matches, without_vector=waiting)

    def _written(
        self, partition: str, key: str, value: Any, ttl: timedelta | None
    ) -> tuple[str, str, str, str, bytes | None, list[str], timedelta | None]:
        text = to_json(check_key(key), value)
        words = words_of(key, text)
        plain, exact = _jsonb(text)
        return (
            self._project,
            check_name(partition, field="partition"),
            key,
            plain,
            exact,
            words,
            check_ttl(ttl),
        )

    def _entry(self, partition: str, row: asyncpg.Record) -> Entry:
        # Not checked again: the table's columns have these types.
        key, value, exact, version, created_at, updated_at, expires_at, run_id, step = tuple(row.values())[:9]
        return Entry.model_construct(
            project=self._project,
            partition=partition,
            key=key,
            value=value if exact is None else from_bytes(exact),
            version=version,
            created_at=created_at,
            updated_at=updated_at,
            expires_at=expires_at,
            run_id=str(run_id) if run_id else None,
            step=step,
        )

    async def _read(self, name: str, *values: Any) -> list[asyncpg.Record]:
        return await retrying(lambda: self._pool.fetch(_SQL[name], self._project, *values))

    async def _write(self, name: str, *values: Any) -> Any:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL["set_project"], self._project)
            return await connection.fetchval(_SQL[name], self._project, *values)


async def projects(pool: asyncpg.Pool) -> dict[str, int]:
    """Projects that the connection's role may see, with how many entries they have."""
    rows: Sequence[asyncpg.Record] = await retrying(lambda: pool.fetch(_SQL["projects"]))
    return {row["project"]: row["entries"] for row in rows}


def _jsonb(text: str) -> tuple[str, bytes | None]:
    """JSON text that JSONB takes, and the exact one where that is another."""
    if _INEXACT.search(text) is None and _sayable(text):
        return text, None
    return encode_json(json.loads(text)), to_bytes(text)


def _sayable(text: str) -> bool:
    """Whether Postgres takes this text, and so may have it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _value(row: asyncpg.Record) -> Any:
    return row["value"] if row["exact"] is None else from_bytes(row["exact"])
