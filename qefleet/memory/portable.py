"""What every store does the same way, in terms of what it does by itself."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from qefleet.errors import InvalidInput
from qefleet.memory.protocol import PARTITION, BadRow, Change, Entry, Imported, Record, Stats, Unusable
from qefleet.memory.values import to_record

PAGE = 1_000


class Portable(ABC):
    """Export, import and watching, for any store."""

    @abstractmethod
    async def search(
        self, glob: str, *, partition: str = PARTITION, limit: int = 100, after: str | None = None
    ) -> list[Entry]:
        """See `Memory.search`."""

    @abstractmethod
    async def stats(self) -> Stats:
        """See `Memory.stats`."""

    @abstractmethod
    async def versions(self, prefix: str, *, partition: str) -> dict[str, int]:
        """Versions of all keys that begin so."""

    @abstractmethod
    async def restore(self, record: Record) -> bool:
        """Write a record with its times; False when it has expired by now."""

    async def export(self, *, partition: str | None = None) -> AsyncIterator[Entry]:
        """See `Memory.export`."""
        for name in sorted((await self.stats()).partitions) if partition is None else [partition]:
            after = None
            while page := await self.search("*", partition=name, limit=PAGE, after=after):
                for entry in page:
                    yield entry
                after = page[-1].key

    async def import_(self, records: Iterable[Any] | AsyncIterable[Any]) -> Imported:
        """See `Memory.import_`."""
        written = expired = 0
        bad: list[BadRow] = []
        number = 0
        async for row in _each(records):
            number += 1
            try:
                kept = await self.restore(to_record(row))
            except InvalidInput as error:
                bad.append(BadRow(row=f"{_name(row)} (row {number})", reason=str(error)))
            else:
                written, expired = written + kept, expired + (not kept)
        return Imported(written=written, expired=expired, bad=bad)

    async def watch(
        self, prefix: str = "", *, partition: str = PARTITION, interval: timedelta = timedelta(seconds=1)
    ) -> AsyncIterator[Change]:
        """See `Memory.watch`."""
        known = await self.versions(prefix, partition=partition)
        while True:
            await asyncio.sleep(interval.total_seconds())
            now = await self.versions(prefix, partition=partition)
            for key in sorted(known.keys() | now.keys()):
                if known.get(key) != now.get(key):
                    yield Change(key=key, version=now.get(key))
            known = now


def still(expires_at: datetime | None, now: datetime) -> bool:
    """Whether something is there at this moment."""
    return expires_at is None or expires_at > now


async def _each(records: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(records, AsyncIterable):
        async for record in records:
            yield record
    else:
        for record in records:
            yield record


def _name(row: Any) -> str:
    if isinstance(row, Record | Entry | Unusable):
        return "no key" if row.key is None else ascii(row.key)
    key: object = cast("Mapping[str, Any]", row).get("key") if isinstance(row, Mapping) else None
    return ascii(key) if isinstance(key, str) else "no key"
