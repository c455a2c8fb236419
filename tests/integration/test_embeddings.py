"""Vectors by a provider's model through the real gateway: bought once, priced; words where there is none."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from gateway_process import SECRET, GatewayProcess

from qefleet.errors import ModelRefused, ModelUnavailable, ModelUnusable, QeError
from qefleet.llm.embeddings import BATCH, ProviderEmbedder
from qefleet.llm.receipts import list_calls
from qefleet.memory.embedding import cosine
from qefleet.memory.in_process import InProcessMemory
from qefleet.memory.postgres import PostgresMemory
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import DIMENSIONS, Rule, vector_of

MODEL = "openai/text-embedding-3-small"


@dataclass
class Site:
    pool: asyncpg.Pool
    provider: ScriptedProvider
    gateway: GatewayProcess

    def embedder(self, model: str = MODEL, *, project: str = "boltons") -> ProviderEmbedder:
        return ProviderEmbedder(model, gateway_url=self.gateway.url, secret=SECRET, project=project)

    def memory(self, model: str = MODEL, *, project: str = "boltons") -> PostgresMemory:
        return PostgresMemory(self.pool, project=project, embedder=self.embedder(model, project=project))


@pytest.fixture
async def site(postgres: ThrowAwayPostgres, tmp_path: Path) -> AsyncIterator[Site]:
    async with (
        postgres.database() as dsn,
        ScriptedProvider() as provider,
        GatewayProcess(dsn, provider.url, tmp_path / "log") as gateway,
        await open_pool(dsn) as pool,
    ):
        yield Site(pool, provider, gateway)


async def test_recall_by_a_providers_model_is_bought_once(site: Site) -> None:
    """The nearest come first; asking the same again sends nothing, and the ledger has tokens and cost."""
    memory = site.memory()
    await memory.store("a", "the parser is slow with large files")
    await memory.store("b", "weak hashes of passwords")
    for _ in range(3):
        recalled = await memory.recall("why is the parser slow", k=1)

        assert (recalled.by, recalled.reason) == ("vectors", None)
        assert [match.entry.key for match in recalled.matches] == ["a"]
    sent = await site.provider.requests()
    calls = await list_calls(site.pool, run_id=None, since=None, limit=10)

    assert [request.path for request in sent] == ["/v1/embeddings"] * 2
    assert [call.agent for call in calls] == ["memory"] * 2
    assert sum(call.replays for call in calls) == 2
    tokens = sum(call.input_tokens or 0 for call in calls)
    assert tokens > 0
    assert sum(Decimal(str(call.cost_usd)) for call in calls) == tokens * Decimal("0.02") / 1_000_000


async def test_vectors_belong_to_their_texts(site: Site) -> None:
    """Over several batches, whatever the order of the answer, and of length 1."""
    texts = [f"text number {number} with words {'x' * number}" for number in range(BATCH + 3)]

    vectors = await site.embedder().embed(texts)

    assert [cosine(vector, vector_of(text)) for vector, text in zip(vectors, texts, strict=True)] == (
        pytest.approx([1.0] * len(texts))
    )
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0] * len(texts))
    assert [len(request.body["input"]) for request in await site.provider.requests()] == [BATCH, 3]


async def test_what_providers_refuse_is_made_to_fit(site: Site) -> None:
    """Empty, too long, half a character: one vector each all the same."""
    vectors = await site.embedder().embed(["", "ä" * 9_000, "\ud800 half"])

    assert [len(vector) for vector in vectors] == [DIMENSIONS] * 3
    sent = (await site.provider.requests())[0].body["input"]
    assert [0 < len(text.encode()) <= 8_000 for text in sent] == [True] * 3


async def test_another_model_makes_its_own_vectors(site: Site) -> None:
    """Those of two models are never compared: what was embedded by one is embedded anew for the other."""
    await site.memory().store("a", "the parser is slow")
    for model in (MODEL, "openai/text-embedding-3-large", MODEL):
        recalled = await site.memory(model).recall("slow parser")

        assert [match.entry.key for match in recalled.matches] == ["a"]
    models = await site.pool.fetch("SELECT DISTINCT model FROM model_calls ORDER BY model")
    assert [row["model"] for row in models] == ["text-embedding-3-large", "text-embedding-3-small"]


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        (Rule(status=503), "makes no vectors (HTTP 503): scripted 503"),
        (Rule(status=401), "makes no vectors (HTTP 401): scripted 401"),
        (Rule(fault="malformed"), "makes no vectors (HTTP 502)"),
        (Rule(fault="drop"), "makes no vectors (HTTP 502)"),
    ],
    ids=["overloaded", "key", "broken", "dropped"],
)
async def test_recall_goes_by_words_where_the_provider_fails(site: Site, rule: Rule, part: str) -> None:
    """And says why; the next recall tries again."""
    memory = site.memory()
    await memory.store("a", "the parser is slow")
    await site.provider.script([rule])

    by_words = await memory.recall("slow")
    await site.provider.script([])
    by_vectors = await memory.recall("slow")

    assert by_words.by == "words"
    assert part in (by_words.reason or "")
    assert [match.entry.key for match in by_words.matches] == ["a"]
    assert by_vectors.by == "vectors"


@pytest.mark.parametrize(
    ("model", "reached", "error", "part"),
    [
        (MODEL, (None, None), ModelUnavailable, "`qe up` starts one"),
        (MODEL, ("http://127.0.0.1:9", SECRET), ModelUnavailable, "is `qe up` running?"),
        (MODEL, ("", "another secret of the tests"), ModelRefused, "the gateway refuses this caller"),
        ("nobody/model", ("", SECRET), ModelRefused, "no provider of this name"),
        ("anthropic/claude", ("", SECRET), ModelRefused, "asked at /v1/messages"),
    ],
    ids=["no-gateway", "gateway-away", "secret", "provider", "anthropic"],
)
async def test_errors_say_what_to_do(
    site: Site, model: str, reached: tuple[str | None, str | None], error: type[QeError], part: str
) -> None:
    """Each is one that recall answers by words."""
    gateway, secret = reached
    url = site.gateway.url if gateway == "" else gateway
    embedder = ProviderEmbedder(model, gateway_url=url, secret=secret, project="boltons")

    with pytest.raises(error, match=part):
        await embedder.embed(["a"])
    memory = InProcessMemory(embedder=embedder)
    await memory.store("a", "slow")
    assert (await memory.recall("slow")).by == "words"


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": []}],
        [{"index": 0, "embedding": "AACAPw=="}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 0.0]}],
    ],
    ids=["none", "another", "empty", "base64", "too-many"],
)
async def test_other_vectors_than_asked_for_are_refused(site: Site, data: list[Any]) -> None:
    """Nothing is compared with them."""
    await site.provider.script([Rule(reply={"data": data})])

    with pytest.raises(ModelUnusable, match="vectors"):
        await site.embedder().embed(["a"])
