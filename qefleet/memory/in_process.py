"""A memory in this process, for tests and trials: nothing is left when it ends."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qefleet.errors import InvalidInput
from qefleet.memory.embedding import Embedder
from qefleet.memory.globs import matcher
from qefleet.memory.portable import still
from qefleet.memory.protocol import HISTORY_MAX, PARTITION, PROJECT, Entry, Record, Stats, Swept, Version
from qefleet.memory.ranking import Ranking
from qefleet.memory.values import check_key, check_name, check_ttl, to_json


@dataclass(frozen=True)
class _Row:
    text: str
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


@dataclass
class _Partition:
    rows: dict[str, _Row] = field(default_factory=dict[str, _Row])
    earlier: dict[str, deque[_Row]] = field(default_factory=dict[str, deque[_Row]])


class InProcessMemory(Ranking):
    """A `Memory` that is gone with its process.

    Args:
        project: Whose it is.
        embedder: Makes vectors for `recall`.
        clock: What time it is, for tests of what expires.
    """

    def __init__(
        self,
        *,
        project: str = PROJECT,
        embedder: Embedder | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(embedder=embedder)
        self._project = check_name(project, field="project")
        self._clock = clock
        self._partitions: dict[str, _Partition] = {}

    async def store(
        self, key: str, value: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """See `Memory.store`."""
        return self._write(check_key(key), to_json(key, value), ttl=check_ttl(ttl), partition=partition)

    async def retrieve(self, key: str, *, partition: str = PARTITION) -> Entry | None:
        """See `Memory.retrieve`."""
        row = self._find(partition, key)
        return self._entry(partition, key, row) if row else None

    async def search(
        self, glob: str, *, partition: str = PARTITION, limit: int = 100, after: str | None = None
    ) -> list[Entry]:
        """See `Memory.search`."""
        matches, rows = matcher(glob).match, self._live(partition)
        found = sorted(key for key in rows if matches(key) and (after is None or key > after))
        return [self._entry(partition, key, rows[key]) for key in found[:limit]]

    async def delete(self, key: str, *, partition: str = PARTITION) -> bool:
        """See `Memory.delete`."""
        was_there = self._find(partition, key) is not None
        self._remove(self._partition(partition), key)
        return was_there

    async def clear_partition(self, partition: str) -> int:
        """See `Memory.clear_partition`."""
        live, there = len(self._live(partition)), self._partition(partition)
        for key in list(there.rows):
            self._remove(there, key)
        return live

    async def list_keys(
        self, prefix: str = "", *, partition: str = PARTITION, limit: int | None = None
    ) -> list[str]:
        """See `Memory.list_keys`."""
        return sorted(key for key in self._live(partition) if key.startswith(prefix))[:limit]

    async def stats(self) -> Stats:
        """See `Memory.stats`."""
        counts = {name: len(self._live(name)) for name in self._partitions}
        return Stats(
            entries=sum(counts.values()),
            partitions={name: count for name, count in counts.items() if count},
            expired=sum(len(there.rows) for there in self._partitions.values()) - sum(counts.values()),
            versions=sum(len(rows) for there in self._partitions.values() for rows in there.earlier.values()),
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
        """See `Memory.compare_and_set`."""
        text, row = to_json(key, value), self._find(partition, key)
        if (row.version if row else None) != expected:
            return None
        return self._write(key, text, ttl=check_ttl(ttl), partition=partition)

    async def append(
        self, key: str, item: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """See `Memory.append`."""
        text, row = to_json(key, item), self._find(partition, key)
        items: Any = json.loads(row.text) if row else []
        if not isinstance(items, list):
            raise InvalidInput("append", f"what is under {key!r} isn't a list")
        written = self._write(
            key, to_json(key, [*items, json.loads(text)]), ttl=check_ttl(ttl), partition=partition
        )
        if row and row.expires_at and ttl is None:
            self._put(partition, key, expires_at=row.expires_at)
        return written

    async def history(
        self, key: str, *, partition: str = PARTITION, limit: int = HISTORY_MAX
    ) -> list[Version]:
        """See `Memory.history`."""
        rows = self._partition(partition).earlier.get(check_key(key), ())
        return [
            Version(version=row.version, value=json.loads(row.text), written_at=row.updated_at)
            for row in sorted(rows, key=lambda row: -row.version)[: min(limit, HISTORY_MAX)]
        ]

    async def sweep(self, *, keep: timedelta = timedelta(days=30), limit: int = 10_000) -> Swept:
        """See `Memory.sweep`."""
        now = self._clock()
        gone = [
            (there, key)
            for there in self._partitions.values()
            for key, row in there.rows.items()
            if not still(row.expires_at, now)
        ]
        for there, key in gone[:limit]:
            self._remove(there, key)
        left, versions = limit - min(len(gone), limit), 0
        more = len(gone) > limit
        for there in self._partitions.values():
            for rows in there.earlier.values():
                while rows and rows[0].updated_at <= now - keep:
                    if versions == left:
                        more = True
                        break
                    rows.popleft()
                    versions += 1
        return Swept(expired=min(len(gone), limit), versions=versions, more=more)

    async def versions(self, prefix: str, *, partition: str) -> dict[str, int]:
        """See `Portable.versions`."""
        return {key: row.version for key, row in self._live(partition).items() if key.startswith(prefix)}

    async def restore(self, record: Record) -> bool:
        """See `Portable.restore`."""
        text = to_json(check_key(record.key), record.value)
        check_name(record.partition, field="partition")
        if not still(record.expires_at, self._clock()):
            return False
        self._write(record.key, text, ttl=None, partition=record.partition)
        times = {"expires_at": record.expires_at}
        self._put(
            record.partition,
            record.key,
            **times | ({"created_at": record.created_at} if record.created_at else {}),
        )
        return True

    async def text_of(self, entry: Entry) -> str:
        """See `Ranking.text_of`."""
        return self._partition(entry.partition).rows[entry.key].text

    def _write(self, key: str, text: str, *, ttl: timedelta | None, partition: str) -> int:
        there, now = self._partition(partition), self._clock()
        before = there.rows.get(key)
        earlier = there.earlier.get(key)
        if before:
            self._remember(there, key, before)
        last = before.version if before else (earlier[-1].version if earlier else 0)
        there.rows[key] = _Row(
            text=text,
            version=last + 1,
            created_at=before.created_at if before and still(before.expires_at, now) else now,
            updated_at=now,
            expires_at=now + ttl if ttl else None,
        )
        return last + 1

    def _put(self, partition: str, key: str, **changes: Any) -> None:
        rows = self._partition(partition).rows
        rows[key] = replace(rows[key], **changes)

    def _remove(self, there: _Partition, key: str) -> None:
        if row := there.rows.pop(key, None):
            self._remember(there, key, row)

    def _remember(self, there: _Partition, key: str, row: _Row) -> None:
        there.earlier.setdefault(key, deque(maxlen=HISTORY_MAX)).append(row)

    def _find(self, partition: str, key: str) -> _Row | None:
        row = self._partition(partition).rows.get(check_key(key))
        return row if row and still(row.expires_at, self._clock()) else None

    def _live(self, partition: str) -> dict[str, _Row]:
        now = self._clock()
        rows = self._partition(partition).rows
        return {key: row for key, row in rows.items() if still(row.expires_at, now)}

    def _partition(self, name: str) -> _Partition:
        return self._partitions.setdefault(check_name(name, field="partition"), _Partition())

    def _entry(self, partition: str, key: str, row: _Row) -> Entry:
        return Entry(
            project=self._project,
            partition=partition,
            key=key,
            value=json.loads(row.text),
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            expires_at=row.expires_at,
        )
