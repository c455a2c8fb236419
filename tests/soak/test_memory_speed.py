"""100,000 keys: what the memory costs over plain SQL on the same table, in one run.

`pytest -m soak tests/soak/test_memory_speed.py -s` prints the table that stands in docs/memory.md.
Plain SQL is what somebody writes who knows the table: as the runtime role, through a pool of the same kind
whose connections have the project set once. So all that the memory does by itself is counted: naming the
project, words, exact values, types.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from qefleet.memory.embedding import Embedder
from qefleet.memory.postgres import PostgresMemory
from qefleet.memory.values import words_of
from qefleet.sql.database import open_pool
from qefleet.sql.roles import become_runtime
from qefleet.testing.postgres import ThrowAwayPostgres

KEYS = 100_000
PROJECT = "boltons"
TIMES = {"retrieve": 2_000, "store": 1_000, "prefix search": 500, "find": 40, "recall": 40}
OVERHEAD_MAX = 1.5

RETRIEVE = """
SELECT value, version, updated_at FROM memory
WHERE project = $1 AND partition = 'default' AND key = $2 AND (expires_at IS NULL OR expires_at > now())
"""
STORE = """
INSERT INTO memory (project, key, value) VALUES ($1, $2, $3)
ON CONFLICT (project, partition, key) DO UPDATE SET value = excluded.value, updated_at = now()
RETURNING version
"""
SEARCH = """
SELECT key, value, version, updated_at FROM memory
WHERE
    project = $1 AND partition = 'default' AND key >= $2 AND key < $3
    AND (expires_at IS NULL OR expires_at > now())
ORDER BY key LIMIT 100
"""
FIND = """
SELECT key, value, version, updated_at FROM memory
WHERE
    project = $1 AND partition = 'default' AND words @@ $2::text::tsquery
    AND (expires_at IS NULL OR expires_at > now())
ORDER BY ts_rank(words, $2::text::tsquery) DESC, key
LIMIT 5
"""
RECALL = """
SELECT m.key, m.value, m.version, m.updated_at
FROM memory_vectors AS v
INNER JOIN memory AS m USING (project, partition, key, version)
WHERE
    v.project = $1 AND v.partition = 'default' AND v.model = $2
    AND (m.expires_at IS NULL OR m.expires_at > now())
ORDER BY v.embedding::vector <=> $3::real[]::vector
LIMIT 5
"""


class Dice:
    """Vectors without a meaning: making them isn't what is measured."""

    model = "dice"

    async def embed(self, texts: Any) -> list[list[float]]:
        return [[random.Random(text).gauss(0, 1) for _ in range(384)] for text in texts]


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_overhead_over_plain_sql(postgres: ThrowAwayPostgres) -> None:
    """Under one and a half times at the median, for each operation."""
    async with postgres.database() as dsn, await open_pool(dsn) as pool:
        await _fill(dsn)
        memory = PostgresMemory(pool, project=PROJECT, embedder=Dice())
        async with await asyncpg.create_pool(
            dsn, min_size=0, init=_as_we_do, server_settings={"qe.project": PROJECT}
        ) as plain:
            measured = {
                name: await _side_by_side(name, ours, theirs)
                for name, (ours, theirs) in _pairs(memory, plain, Dice()).items()
            }

    head = f"| {KEYS:,} keys | memory p50 | p99 | plain SQL p50 | p99 | p50 / p50 |"
    rows = [_row(name, ours, theirs) for name, (ours, theirs) in measured.items()]
    print("", head, "|---|---|---|---|---|---|", *rows, sep="\n")  # noqa: T201
    assert [
        name for name, (ours, theirs) in measured.items() if _at(ours, 50) > OVERHEAD_MAX * _at(theirs, 50)
    ] == []


Work = Callable[[], Awaitable[object]]


def _pairs(memory: PostgresMemory, plain: asyncpg.Pool, embedder: Embedder) -> dict[str, tuple[Work, Work]]:
    dice = random.Random(1)

    def key() -> str:
        return f"aqe/area-{dice.randrange(100)}/name-{dice.randrange(1000)}"

    def value() -> dict[str, Any]:
        return _value(dice)

    def words() -> list[str]:
        return [f"word{dice.randrange(5_000)}" for _ in range(3)]

    async def search_plainly() -> object:
        prefix = key()[:-1]
        return await plain.fetch(SEARCH, PROJECT, prefix, f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}")

    async def recall_plainly() -> object:
        (vector,) = await embedder.embed([key()])
        return await plain.fetch(RECALL, PROJECT, embedder.model, vector)

    return {
        "retrieve": (
            lambda: memory.retrieve(key()),
            lambda: plain.fetchrow(RETRIEVE, PROJECT, key()),
        ),
        "store": (
            lambda: memory.store(key(), value()),
            lambda: plain.fetchval(STORE, PROJECT, key(), value()),
        ),
        "prefix search": (lambda: memory.search(f"{key()[:-1]}*"), search_plainly),
        "find": (
            lambda: memory.find(" ".join(words()), limit=5),
            lambda: plain.fetch(FIND, PROJECT, " | ".join(words())),
        ),
        "recall": (lambda: memory.recall(key(), 5), recall_plainly),
    }


async def _side_by_side(name: str, ours: Work, theirs: Work) -> tuple[list[float], list[float]]:
    """Milliseconds, taken in turns, so that a busy moment of the machine counts for both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES[name] // 10):
        await ours()
        await theirs()
    for _ in range(TIMES[name]):
        for work, times in zip((ours, theirs), taken, strict=True):
            begun = time.perf_counter()
            await work()
            times.append((time.perf_counter() - begun) * 1_000)
    return taken


async def _as_we_do(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await become_runtime(connection)


def _value(dice: random.Random) -> dict[str, Any]:
    return {
        "headline": " ".join(f"word{dice.randrange(5_000)}" for _ in range(10)),
        "metrics": {f"m{number}": dice.random() for number in range(5)},
        "files": [f"src/part{dice.randrange(50)}.py" for _ in range(3)],
    }


async def _fill(dsn: str) -> None:
    dice = random.Random(0)
    owner = await asyncpg.connect(dsn)
    entries, vectors = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for number in range(KEYS):
        key = f"aqe/area-{number // 1000}/name-{number % 1000}"
        text = json.dumps(_value(dice))
        entries.append((PROJECT, key, text, words_of(key, text)))
        vectors.append((PROJECT, key, [dice.gauss(0, 1) for _ in range(384)]))
    await owner.executemany(
        "INSERT INTO memory (project, key, value, words) VALUES ($1, $2, $3, array_to_tsvector($4::text[]))",
        entries,
    )
    await owner.executemany(
        "INSERT INTO memory_vectors (project, partition, key, model, version, embedding)"
        " VALUES ($1, 'default', $2, 'dice', 1, $3)",
        vectors,
    )
    await owner.execute("VACUUM ANALYZE memory, memory_vectors")
    await owner.close()


def _row(name: str, ours: list[float], theirs: list[float]) -> str:
    figures = " | ".join(f"{_at(times, percent):.2f} ms" for times in (ours, theirs) for percent in (50, 99))
    return f"| {name} | {figures} | {_at(ours, 50) / _at(theirs, 50):.2f} |"


def _at(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]
