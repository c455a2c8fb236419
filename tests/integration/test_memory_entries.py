from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from qefleet.memory.entries import Memory, like_pattern, prefix_bounds
from qefleet.sql.database import open_pool


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database) as pool:
        yield pool


@pytest.fixture
def memory(pool: asyncpg.Pool) -> Memory:
    return Memory(pool)


async def test_value_comes_back_as_it_was(memory: Memory) -> None:
    """Any JSON value, with its version."""
    value: dict[str, object] = {"a": [1, 2.5, None, True, "ü\u2028"], "b": {}}

    version = await memory.store("aqe/x", value)
    entry = await memory.retrieve("aqe/x")

    assert version == 1
    assert entry is not None
    assert (entry.value, entry.version, entry.run_id) == (value, 1, None)


async def test_versions_rise_and_history_keeps_what_was(memory: Memory, pool: asyncpg.Pool) -> None:
    """Nothing that was remembered is lost by writing over it or deleting it."""
    for value in ("one", "two", "three"):
        await memory.store("k", value)

    assert await memory.delete("k")
    history = await pool.fetch("SELECT version, value FROM memory_history ORDER BY version")

    assert [(row["version"], row["value"]) for row in history] == [(1, "one"), (2, "two"), (3, "three")]
    assert await memory.retrieve("k") is None
    assert not await memory.delete("k")


async def test_expired_value_is_gone(memory: Memory) -> None:
    """By the database's clock, in every way of reading."""
    await memory.store("k", 1, ttl=timedelta(milliseconds=20))
    assert await memory.retrieve("k") is not None

    await asyncio.sleep(0.05)

    assert await memory.retrieve("k") is None
    assert await memory.search("*") == []
    assert not await memory.delete("k")


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*", ["a%b", "a/b", "a/bc", "aXb", "a_b"]),
        ("a/*", ["a/b", "a/bc"]),
        ("a_b", ["a_b"]),
        ("a%b", ["a%b"]),
        ("a?b", ["a%b", "a/b", "aXb", "a_b"]),
        ("*c", ["a/bc"]),
        ("b*", []),
    ],
)
async def test_search_takes_only_its_own_wildcards(memory: Memory, glob: str, found: list[str]) -> None:
    """`*` and `?` are wildcards; LIKE's `%` and `_` are plain characters."""
    for key in ("a_b", "aXb", "a%b", "a/b", "a/bc"):
        await memory.store(key, 1)

    assert [entry.key for entry in await memory.search(glob)] == found


async def test_partitions_do_not_see_each_other(memory: Memory, pool: asyncpg.Pool) -> None:
    """The same key in two partitions is two entries."""
    other = Memory(pool, partition="other")
    await memory.store("k", 1)

    assert await other.retrieve("k") is None
    assert await other.search("*") == []


@pytest.mark.parametrize(
    ("glob", "bounds"),
    [
        ("", ("", None)),
        ("*", ("", None)),
        ("ab*", ("ab", "ac")),
        ("a?b*", ("a", "b")),
        ("ab", ("ab", None)),
        ("a\U0010ffff*", ("a\U0010ffff", None)),
        ("a\ud7ff*", ("a\ud7ff", "a\ue000")),
    ],
)
def test_bounds_enclose_all_that_can_match(glob: str, bounds: tuple[str, str | None]) -> None:
    """The literal beginning, and the first key beyond it that text can be."""
    assert prefix_bounds(glob) == bounds


def test_backslash_is_a_plain_character() -> None:
    """LIKE's escape character is escaped itself."""
    assert like_pattern("a\\*") == "a\\\\%"
