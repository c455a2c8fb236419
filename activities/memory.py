"""Memory as activities: for workflows that people write beside the fleet's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from activities.edge import implements
from qefleet.contracts.memory import (
    VALUE_MAX_BYTES,
    Deleted,
    Entries,
    MemoryKey,
    RecallEntries,
    Remembered,
    SearchEntries,
    Stored,
    StoreEntry,
)
from qefleet.contracts.ports import MemoryPort
from qefleet.errors import InvalidInput
from qefleet.memory.protocol import Entry, Memory

M = TypeVar("M", bound=BaseModel)


class MemoryActivities(MemoryPort):
    """Reading and writing; an activity that is tried again finds what its first try wrote.

    Args:
        memory_of: A project's memory.
    """

    def __init__(self, memory_of: Callable[[str], Memory]) -> None:
        self._memory_of = memory_of

    @implements(MemoryPort.memory_store)
    async def memory_store(self, request: dict[str, Any]) -> Stored:
        asked = _checked(StoreEntry, request)
        memory, partition = self._memory_of(asked.project), asked.partition
        ttl = timedelta(seconds=asked.ttl_s) if asked.ttl_s else None
        if asked.expected_version is None:
            version = await memory.store(asked.key, asked.value, ttl=ttl, partition=partition)
            return Stored(version=version)
        expected = asked.expected_version or None
        version = await memory.compare_and_set(
            asked.key, asked.value, expected=expected, ttl=ttl, partition=partition
        )
        if version is None:
            there = await memory.retrieve(asked.key, partition=partition)
            if there and there.version == asked.expected_version + 1 and there.value == asked.value:
                version = there.version  # an earlier try wrote it
        return Stored(version=version)

    @implements(MemoryPort.memory_retrieve)
    async def memory_retrieve(self, request: dict[str, Any]) -> Remembered | None:
        asked = _checked(MemoryKey, request)
        entry = await self._memory_of(asked.project).retrieve(asked.key, partition=asked.partition)
        return _fitting([_remembered(entry)])[0] if entry else None

    @implements(MemoryPort.memory_search)
    async def memory_search(self, request: dict[str, Any]) -> Entries:
        asked = _checked(SearchEntries, request)
        found = await self._memory_of(asked.project).search(
            asked.glob, partition=asked.partition, limit=asked.limit, after=asked.after
        )
        return Entries(entries=_fitting([_remembered(entry) for entry in found]))

    @implements(MemoryPort.memory_recall)
    async def memory_recall(self, request: dict[str, Any]) -> Entries:
        asked = _checked(RecallEntries, request)
        found = await self._memory_of(asked.project).recall(asked.text, asked.k, partition=asked.partition)
        entries = [_remembered(match.entry, score=match.score) for match in found.matches]
        return Entries(entries=_fitting(entries), by=found.by, reason=found.reason)

    @implements(MemoryPort.memory_delete)
    async def memory_delete(self, request: dict[str, Any]) -> Deleted:
        asked = _checked(MemoryKey, request)
        memory = self._memory_of(asked.project)
        return Deleted(deleted=await memory.delete(asked.key, partition=asked.partition))


def _checked(kind: type[M], request: dict[str, Any]) -> M:
    """Raises InvalidInput, which isn't retried, where decoding by type would be for ever."""
    try:
        return kind.model_validate(request)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "request"
        raise InvalidInput(field, first["msg"]) from error


def _remembered(entry: Entry, *, score: float | None = None) -> Remembered:
    return Remembered(
        key=entry.key, value=entry.value, version=entry.version, updated_at=entry.updated_at, score=score
    )


def _fitting(entries: list[Remembered]) -> list[Remembered]:
    """All of them, where one payload can hold them."""
    size = sum(len(entry.model_dump_json()) for entry in entries)
    if size > VALUE_MAX_BYTES:
        raise InvalidInput("key", f"{size:,} bytes are too many for a payload: ask for fewer entries")
    return entries
