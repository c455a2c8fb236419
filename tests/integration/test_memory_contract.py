"""One contract for all stores, against an oracle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_oracle import GLOBS, KEYS, QUESTIONS, VALUES, Oracle, exact
from pydantic import BaseModel
from redis_server import running_redis

from qefleet.errors import InvalidInput
from qefleet.memory.in_process import InProcessMemory
from qefleet.memory.postgres import PostgresMemory
from qefleet.memory.protocol import Memory
from qefleet.memory.redis import RedisMemory, open_redis
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres

PARTITIONS = st.sampled_from(["default", "other"])


class Stores:
    """Memories of new projects in one store."""

    def __init__(self, kind: str, pool: Any = None, client: Any = None) -> None:
        self.kind = kind
        self._pool = pool
        self._client = client

    def fresh(self) -> Memory:
        project = f"p-{uuid4()}"
        match self.kind:
            case "postgres":
                return PostgresMemory(self._pool, project=project)
            case "redis":
                return RedisMemory(self._client, project=project)
            case _:
                return InProcessMemory(project=project)


@pytest.fixture(scope="module", params=["postgres", "redis", "in-process"])
async def stores(request: pytest.FixtureRequest, postgres: ThrowAwayPostgres) -> AsyncIterator[Stores]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "postgres":
                dsn = await stack.enter_async_context(postgres.database())
                yield Stores("postgres", pool=await stack.enter_async_context(await open_pool(dsn)))
            case "redis":
                client = open_redis(await stack.enter_async_context(running_redis()))
                yield Stores("redis", client=await stack.enter_async_context(client))
            case _:
                yield Stores("in-process")


@pytest.fixture
def memory(stores: Stores) -> Memory:
    return stores.fresh()


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """What is done with a few keys, so that they meet."""
    keys = st.sampled_from(draw(st.lists(KEYS, min_size=1, max_size=5, unique=True)))
    step = st.one_of(
        st.tuples(st.just("store"), keys, VALUES),
        st.tuples(st.just("compare_and_set"), keys, VALUES, st.none() | st.integers(1, 4)),
        st.tuples(st.just("append"), keys, VALUES),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("retrieve"), keys),
        st.tuples(st.just("history"), keys),
        st.tuples(st.just("search"), GLOBS),
        st.tuples(st.just("list_keys"), st.text(max_size=2)),
        st.tuples(st.just("find"), QUESTIONS),
        st.tuples(st.just("clear")),
        st.tuples(st.just("stats")),
    )
    return draw(st.lists(st.tuples(PARTITIONS, step), min_size=1, max_size=25))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps())
async def test_store_says_what_the_oracle_says(
    stores: Stores, steps: list[tuple[str, tuple[Any, ...]]]
) -> None:
    """Any keys, values and globs, in any order of doing."""
    memory, oracle = stores.fresh(), Oracle()

    for partition, (name, *arguments) in steps:
        assert await done(memory, partition, name, *arguments) == expected(
            oracle, partition, name, *arguments
        ), name


async def done(memory: Memory, partition: str, name: str, *arguments: Any) -> Any:
    """What the store says, in the oracle's words."""
    if name == "stats":
        stats = await memory.stats()
        return stats.entries, stats.partitions, stats.versions
    if name == "clear":
        return await memory.clear_partition(partition)
    named = {"expected": arguments[-1]} if name == "compare_and_set" else {}
    given = arguments[:2] if named else arguments
    try:
        said: Any = await getattr(memory, name)(*given, **named, partition=partition)
    except InvalidInput:
        return None
    return SAID.get(name, lambda same: same)(said)


SAID: dict[str, Callable[[Any], Any]] = {
    "history": lambda past: [(version.version, exact(version.value)) for version in past],
    "retrieve": lambda entry: (entry.version, exact(entry.value)) if entry else None,
    "search": lambda entries: [entry.key for entry in entries],
    "find": lambda matches: [(match.score, match.entry.key) for match in matches],
}
"""What of an answer the oracle knows."""


def expected(oracle: Oracle, partition: str, name: str, *arguments: Any) -> Any:
    """What the oracle says."""
    if name == "list_keys":
        (prefix,) = arguments
        return [key for key in oracle.search(partition, "*") if key.startswith(prefix)]
    return oracle.stats() if name == "stats" else getattr(oracle, name)(partition, *arguments)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=8))
async def test_export_comes_back_by_import(stores: Stores, values: dict[str, Any]) -> None:
    """Into an empty memory of the same kind: the same entries at the same times."""
    memory, other = stores.fresh(), stores.fresh()
    for key, value in values.items():
        await memory.store(key, value, ttl=timedelta(hours=1), partition="other")

    exported = [entry async for entry in memory.export()]
    imported = await other.import_(exported)
    again = [entry async for entry in other.export(partition="other")]

    assert (imported.written, imported.expired, imported.bad) == (len(values), 0, [])
    assert {entry.key: exact(entry.value) for entry in again} == {
        key: exact(value) for key, value in values.items()
    }
    assert [(one.created_at, one.expires_at) for one in exported] == [
        (one.created_at, one.expires_at) for one in again
    ]


async def test_bad_rows_are_named_and_the_others_written(memory: Memory) -> None:
    """What can't be a key or a value, and what has expired."""
    past = datetime(2020, 1, 1, tzinfo=UTC)
    rows = [
        {"key": "good", "value": 1},
        {"key": "", "value": 1},
        {"key": "nan", "value": float("nan")},
        {"value": 1},
        {"key": "old", "value": 1, "expires_at": past},
        {"key": "naive", "value": 1, "created_at": "2020-01-01T00:00:00"},
        "no row",
    ]

    imported = await memory.import_(rows)

    assert (imported.written, imported.expired) == (1, 1)
    assert [bad.row for bad in imported.bad] == [
        "'' (row 2)", "'nan' (row 3)", "no key (row 4)", "'naive' (row 6)", "no key (row 7)"
    ]  # fmt: skip
    assert [entry.key for entry in await memory.search("*")] == ["good"]


async def test_expired_value_is_gone(memory: Memory) -> None:
    """In every way of reading and writing; a sweep takes it away for good."""
    await memory.store("k", [1], ttl=timedelta(milliseconds=60))
    await memory.store("stays", 1, ttl=timedelta(hours=1))
    assert await memory.retrieve("k") is not None

    await asyncio.sleep(0.1)

    assert await memory.retrieve("k") is None
    assert [entry.key for entry in await memory.search("*")] == ["stays"]
    assert await memory.list_keys("k") == []
    assert await memory.find("k") == []
    assert await memory.compare_and_set("k", 2, expected=1) is None
    assert not await memory.delete("k")
    await memory.store("k", 1, ttl=timedelta(milliseconds=1))
    await asyncio.sleep(0.01)
    assert (await memory.stats()).expired == 1
    swept = await memory.sweep(keep=timedelta(days=1))
    assert (swept.expired, swept.versions, swept.more) == (1, 0, False)
    assert await memory.append("k", 3) == 3
    assert (await memory.sweep(keep=timedelta())).versions == 2


async def test_append_keeps_the_time_of_expiry(memory: Memory) -> None:
    """Unless it names one itself."""
    await memory.append("k", -0.0, ttl=timedelta(hours=1))
    first = await memory.retrieve("k")
    await memory.append("k", "\x00")
    second = await memory.retrieve("k")
    await memory.append("k", 1, ttl=timedelta(hours=2))
    third = await memory.retrieve("k")

    assert first
    assert second
    assert third
    assert second.expires_at == first.expires_at
    assert third.expires_at == third.updated_at + timedelta(hours=2)
    assert exact(third.value) == exact([-0.0, "\x00", 1])


async def test_an_hour_is_an_hour(memory: Memory) -> None:
    """By the store's clock."""
    await memory.store("k", 1, ttl=timedelta(hours=1))

    entry = await memory.retrieve("k")

    assert entry
    assert entry.expires_at
    assert entry.expires_at - entry.updated_at == timedelta(hours=1)
    assert abs(entry.updated_at - datetime.now(UTC)) < timedelta(seconds=5)


class Result(BaseModel):
    """Something that an agent would keep."""

    at: datetime
    parts: set[int]


async def test_pydantic_values_are_kept_as_json(memory: Memory) -> None:
    """Whole models, and models inside."""
    result = Result(at=datetime(2026, 1, 2, tzinfo=UTC), parts={1})

    await memory.store("k", {"results": [result]})
    entry = await memory.retrieve("k")

    assert entry
    assert entry.value == {"results": [{"at": "2026-01-02T00:00:00Z", "parts": [1]}]}


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], object(), {(1, 2): 3}],
    ids=["nan", "inf", "object", "tuple as key"],
)
async def test_what_is_no_json_is_refused_by_name(memory: Memory, value: Any) -> None:
    """The error names the key, and nothing is written."""
    with pytest.raises(InvalidInput, match="value of 'some/key'"):
        await memory.store("some/key", value)

    assert await memory.retrieve("some/key") is None


@pytest.mark.parametrize("key", ["", "a\x00", "\ud800", "x" * 1025])
async def test_what_can_be_no_key_is_refused(memory: Memory, key: str) -> None:
    """In every store alike."""
    with pytest.raises(InvalidInput, match="key"):
        await memory.store(key, 1)


async def test_watch_tells_what_changed(memory: Memory) -> None:
    """Written, written again, deleted; below its prefix only."""
    await memory.store("a/old", 1)
    changes = memory.watch("a/", interval=timedelta(milliseconds=20))
    told = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.05)

    await memory.store("b", 1)
    await memory.store("a/new", 1)
    first = await told
    await memory.delete("a/old")
    second = await anext(changes)

    assert [(first.key, first.version), (second.key, second.version)] == [("a/new", 1), ("a/old", None)]


async def count_up(memory: Memory, times: int) -> int:
    """Adds one so often, whatever others do; how often it was too late."""
    late = 0
    for _ in range(times):
        pause_s = 0.002
        while True:
            entry = await memory.retrieve("counter")
            value, version = (entry.value, entry.version) if entry else (0, None)
            if await memory.compare_and_set("counter", value + 1, expected=version):
                break
            late += 1
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(0.2, pause_s * 2)
    return late


@pytest.mark.parametrize(("writers", "times"), [(5, 20), pytest.param(50, 1_000, marks=pytest.mark.soak)])
@pytest.mark.timeout(1_800)
async def test_counting_by_compare_and_set_is_exact(memory: Memory, writers: int, times: int) -> None:
    """However many count at once."""
    late = sum(await asyncio.gather(*(count_up(memory, times) for _ in range(writers))))

    print(f"{writers * times} counted, {late} came too late")  # noqa: T201
    entry = await memory.retrieve("counter")
    assert entry
    assert (entry.value, entry.version) == (writers * times, writers * times)


async def test_appending_loses_nothing(memory: Memory) -> None:
    """Ten writers, plain items and such as JSONB changes."""
    await asyncio.gather(*(memory.append("k", 1e16 if number % 5 == 0 else number) for number in range(30)))

    entry = await memory.retrieve("k")

    assert entry
    assert entry.version == 30
    assert sorted(entry.value) == sorted(1e16 if number % 5 == 0 else number for number in range(30))
