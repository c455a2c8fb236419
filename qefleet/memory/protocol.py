"""What a memory does, whichever store keeps it: JSON values under keys such as `aqe/coverage/gaps`.

A memory belongs to one project; in it, partitions are separate from one another. What holds for each store:

- A value is what JSON can say, exactly: text with NUL or lone surrogates too, numbers to the last digit.
  NaN and infinity are no JSON and are refused.
- Versions of a key rise by one with each change, and go on when it is deleted and written again, as long as
  its history is kept.
- An entry whose `ttl` has passed, by the store's own clock, is not there in any way of reading or writing.
- A call that raised `StoreUnavailable` may have written: `compare_and_set` is how to find out.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from qefleet.contracts.base import Model

PARTITION = "default"
PROJECT = "default"
"""What is remembered outside of any run, where no project is named."""
HISTORY_MAX = 100
"""Versions of one key that `history` tells at most."""


class Entry(Model):
    """A remembered value."""

    project: str
    partition: str
    key: str
    value: Any
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    run_id: str | None = None
    """The run that wrote it; null when a person did."""
    step: str | None = None


class Version(Model):
    """What stood under a key before."""

    version: int
    value: Any
    written_at: datetime
    run_id: str | None = None
    step: str | None = None


class Match(Model):
    """An entry that answers a search by text."""

    entry: Entry
    score: float
    """By words: the share of the question's words that are in it. By vectors: the cosine."""


class Recall(Model):
    """What is nearest to a text."""

    by: Literal["vectors", "words"]
    """`words` where no model makes vectors, or the database has no pgvector."""
    reason: str | None
    """Why it isn't by vectors."""
    matches: list[Match]
    without_vector: int = 0
    """Entries that have none yet, and couldn't be considered."""


class Stats(Model):
    """How much there is in a project."""

    entries: int
    partitions: dict[str, int]
    """Entries of each."""
    expired: int
    """Entries that wait for the next sweep."""
    versions: int
    """Earlier versions that are kept."""


class Change(Model):
    """A key is another than it was."""

    key: str
    version: int | None
    """None when it is gone."""


class Record(BaseModel):
    """An entry on its way from one memory to another; fields that it doesn't know are left out."""

    model_config = ConfigDict(frozen=True)

    key: str
    value: Any
    partition: str = PARTITION
    created_at: datetime | None = None
    expires_at: datetime | None = None


class Unusable(Model):
    """A row that its reader can make nothing of; an import names it."""

    key: str | None
    reason: str


class BadRow(Model):
    """What couldn't be brought in."""

    row: str
    """Its key where it has one, and its place."""
    reason: str


class Imported(Model):
    """What an import did: each row is counted once."""

    written: int
    expired: int
    """Had expired before it came."""
    bad: list[BadRow]


class Swept(Model):
    """What a sweep took away."""

    expired: int
    versions: int
    more: bool
    """It stopped at its limit."""


class Memory(Protocol):
    """One project's memory."""

    async def store(
        self, key: str, value: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """Write a value (JSON, or anything that Pydantic can make JSON of); returns its version.

        Raises:
            InvalidInput: The value has no JSON form, or the key can't be one; the message names the key.
        """
        ...

    async def retrieve(self, key: str, *, partition: str = PARTITION) -> Entry | None:
        """What is under this key; None when nothing is."""
        ...

    async def search(
        self, glob: str, *, partition: str = PARTITION, limit: int = 100, after: str | None = None
    ) -> list[Entry]:
        """Entries whose key matches, by code points of the key: `*` is any text, `?` one character.

        Args:
            glob: What to look for; all other characters stand for themselves.
            partition: Where.
            limit: How many at most.
            after: Go on behind this key.
        """
        ...

    async def find(self, text: str, *, partition: str = PARTITION, limit: int = 20) -> list[Match]:
        """Entries with any of the text's words in their key or value: those with most of them first."""
        ...

    async def recall(self, text: str, k: int = 5, *, partition: str = PARTITION) -> Recall:
        """The `k` entries that are nearest to a text in meaning, or by words where that can't be told."""
        ...

    async def delete(self, key: str, *, partition: str = PARTITION) -> bool:
        """Take a key away; whether it was there. Its last value stays in its history."""
        ...

    async def clear_partition(self, partition: str) -> int:
        """Take all keys of a partition away; how many there were."""
        ...

    async def list_keys(
        self, prefix: str = "", *, partition: str = PARTITION, limit: int | None = None
    ) -> list[str]:
        """Keys that begin so, by their code points."""
        ...

    async def stats(self) -> Stats:
        """How much there is."""
        ...

    async def compare_and_set(
        self,
        key: str,
        value: Any,
        *,
        expected: int | None,
        ttl: timedelta | None = None,
        partition: str = PARTITION,
    ) -> int | None:
        """Write only over the expected version; the new version, or None when it is another by now.

        Args:
            key: Where.
            value: What.
            expected: The version that was read; None where nothing was.
            ttl: As for `store`.
            partition: As for `store`.
        """
        ...

    async def append(
        self, key: str, item: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """Add an item to the list under a key, which begins empty; returns the new version.

        Nothing is lost, however many append at once. `ttl` counts anew from each call that names one.

        Raises:
            InvalidInput: What is there isn't a list.
        """
        ...

    async def history(
        self, key: str, *, partition: str = PARTITION, limit: int = HISTORY_MAX
    ) -> list[Version]:
        """What stood under a key before what stands there now, the latest first."""
        ...

    def export(self, *, partition: str | None = None) -> AsyncIterator[Entry]:
        """All entries, of one partition or of all, by partition and key."""
        ...

    async def import_(self, records: Iterable[Any] | AsyncIterable[Any]) -> Imported:
        """Write what `export` gave, as entries or as plain mappings, over what is there.

        Times are kept. A row that can't be written is named, and the others are written all the same.
        """
        ...

    def watch(
        self, prefix: str = "", *, partition: str = PARTITION, interval: timedelta = timedelta(seconds=1)
    ) -> AsyncIterator[Change]:
        """Tell changes of keys that begin so, from now on, until it is left.

        It looks at every interval: of several changes in between, the last one is told; none is missed.
        """
        ...

    async def sweep(self, *, keep: timedelta = timedelta(days=30), limit: int = 10_000) -> Swept:
        """Take away what has expired, and earlier versions that are older than `keep`; so many at most."""
        ...
