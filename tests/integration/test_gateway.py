"""The gateway between clients, a real Postgres and a scripted provider: what is bought, and how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from gateway_process import CHAT, KEY, SECRET, GatewayProcess, question

from qefleet.llm.receipts import list_calls, receipt, usage_of
from qefleet.llm.tokens import mint
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as server:
        yield server


@pytest.fixture(scope="module")
async def shared(
    postgres: ThrowAwayPostgres, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayProcess]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    async with (
        postgres.database() as dsn,
        GatewayProcess(dsn, provider.url, log, QE_UPSTREAM_TIMEOUT_S="3") as process,
    ):
        yield process


@pytest.fixture
async def gateway(shared: GatewayProcess, provider: ScriptedProvider) -> GatewayProcess:
    """One process for all tests here; for each a run of its own and a provider that has seen nothing."""
    shared.run = uuid4()
    await provider.reset()
    await provider.script([Rule(reply="an answer", input_tokens=1000, output_tokens=100)])
    return shared


@pytest.fixture(scope="module")
async def pool(shared: GatewayProcess) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(shared.database) as opened:
        yield opened


def _text(response: httpx.Response) -> str:
    return response.json()["choices"][0]["message"]["content"]


async def test_an_answer_is_bought_once(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """The same identity and request again gets the same bytes, and nothing is bought."""
    first, again = await gateway.ask(), await gateway.ask()

    assert first.content == again.content
    assert (first.headers["x-qe-replayed"], again.headers["x-qe-replayed"]) == ("false", "true")
    assert first.headers["x-qe-cost-usd"] == again.headers["x-qe-cost-usd"] == "0.00056"
    assert len(await provider.requests()) == 1
    found = await receipt(pool, gateway.identity())
    by_key = await receipt(pool, first.headers["x-qe-call"])
    used = await usage_of(pool, gateway.run, "test-generator#0")
    listed = await list_calls(pool, run_id=gateway.run)
    assert found is not None
    assert found == by_key
    assert (found.attempts, found.replays, found.input_tokens, found.output_tokens) == (1, 1, 1000, 100)
    assert (used.calls, used.replayed_calls, used.cost_usd) == (1, 1, 0.00056)
    assert [call.state for call in listed] == ["answered"]


async def test_another_ordinal_is_another_call(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """The same request with the next ordinal is meant to be asked again."""
    await gateway.ask()
    await gateway.ask(who=gateway.identity(ordinal=1))

    assert len(await provider.requests()) == 2


async def test_fifty_at_once_are_one_call(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """Fifty clients that ask the same at the same time share one request to the provider."""
    await provider.script([Rule(reply="shared", latency_s=0.5)])
    answers = await asyncio.gather(*(gateway.ask() for _ in range(50)))

    assert {_text(answer) for answer in answers} == {"shared"}
    assert len(await provider.requests()) == 1


async def test_two_gateways_make_one_call(
    gateway: GatewayProcess, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """Of two gateways over one ledger, one sends, and the other waits for its answer."""
    await provider.script([Rule(reply="shared", latency_s=0.5)])
    async with GatewayProcess(gateway.database, provider.url, tmp_path / "log") as other:
        other.run = gateway.run
        answers = await asyncio.gather(*(each.ask() for each in (gateway, other) for _ in range(10)))

    assert {_text(answer) for answer in answers} == {"shared"}
    assert len(await provider.requests()) == 1


async def test_a_client_that_leaves_loses_nothing(
    gateway: GatewayProcess, provider: ScriptedProvider
) -> None:
    """A call whose client went away in the middle ends all the same, and its answer waits."""
    await provider.script([Rule(reply="late", latency_s=0.6)])
    with pytest.raises(httpx.ReadTimeout):
        await gateway.ask(timeout_s=0.3)
    await asyncio.sleep(0.6)
    answer = await gateway.ask()

    assert _text(answer) == "late"
    assert answer.headers["x-qe-replayed"] == "true"
    assert len(await provider.requests()) == 1


async def test_a_retry_attaches_to_the_running_call(
    gateway: GatewayProcess, provider: ScriptedProvider
) -> None:
    """A client that comes back while the first call still runs waits for that one."""
    await provider.script([Rule(reply="late", latency_s=0.8)])
    with pytest.raises(httpx.ReadTimeout):
        await gateway.ask(timeout_s=0.2)
    answer = await gateway.ask()

    assert (_text(answer), answer.headers["x-qe-replayed"]) == ("late", "false")
    assert len(await provider.requests()) == 1


async def test_hostile_text_is_kept_raw(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """NUL, a lone surrogate and three megabytes come back as they were sent, first and again."""
    text = "a\x00b\ud800" + "x" * 3_000_000
    await provider.script([Rule(reply={"text": text})])
    first, again = await gateway.ask(), await gateway.ask()

    assert first.content == again.content
    assert json.loads(_text(first)) == {"text": text}
    assert len(await provider.requests()) == 1


async def test_a_stream_passes_live_and_is_replayed(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """The first piece arrives long before the last; afterwards the ledger gives the same stream."""
    await provider.script(
        [Rule(reply="0123456789abcdef" * 4, chunk_pause_s=0.2, input_tokens=7, output_tokens=9)]
    )
    body, headers = question(stream=True), {"authorization": f"Bearer {gateway.token()}"}
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []
    live = b""
    async with gateway.client.stream("POST", CHAT, json=body, headers=headers) as response:
        async for piece in response.aiter_raw():
            arrivals.append(loop.time())
            live += piece
    again = await gateway.ask(body)

    assert arrivals[-1] - arrivals[0] > 0.4
    assert live.endswith(b"data: [DONE]\n\n")
    assert again.content == live
    assert again.headers["content-type"] == response.headers["content-type"] == "text/event-stream"
    assert len(await provider.requests()) == 1
    used = await usage_of(pool, gateway.run)
    assert (used.input_tokens, used.output_tokens) == (7, 9)


async def test_a_stream_that_breaks_is_no_answer(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """A stream cut off in the middle ends with an error event, and the next try asks again."""
    await provider.script(
        [Rule(reply="0123456789abcdef" * 4, fault="truncate", times=1), Rule(reply="whole")]
    )
    broken = await gateway.ask(question(stream=True))
    again = await gateway.ask(question(stream=True))

    assert b"event: error\ndata: " in broken.content
    assert b"upstream_broken" in broken.content
    assert again.content.endswith(b"data: [DONE]\n\n")
    assert len(await provider.requests()) == 2


async def test_a_rate_limit_is_passed_on(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """A 429 arrives with its Retry-After and isn't kept: the next try sends again."""
    await provider.script([Rule(status=429, retry_after_s=7, times=1), Rule(reply="now")])
    limited, answer = await gateway.ask(), await gateway.ask()

    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert limited.json()["error"]["type"] == "scripted"
    assert _text(answer) == "now"
    rows = await pool.fetch(
        "SELECT outcome, status FROM model_attempts WHERE run_id = $1 ORDER BY started_at", gateway.run
    )
    assert [tuple(row.values()) for row in rows] == [("failed", 429), ("answered", 200)]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule(fault="drop", times=1), (502, "upstream_broken")),
        (Rule(fault="truncate", reply="x" * 500, times=1), (502, "upstream_broken")),
        (Rule(fault="malformed", reply="x", times=1), (502, "upstream_unusable")),
        (Rule(fault="hang", times=1), (504, "upstream_timeout")),
    ],
    ids=["drop", "truncate", "malformed", "hang"],
)
async def test_a_broken_provider_is_told_in_one_shape(
    gateway: GatewayProcess, provider: ScriptedProvider, rule: Rule, told: tuple[int, str]
) -> None:
    """What is no answer becomes a typed error, and the next try gets the answer."""
    await provider.script([rule, Rule(reply="fine")])
    broken, answer = await gateway.ask(), await gateway.ask()

    assert (broken.status_code, broken.json()["error"]["type"]) == told
    assert _text(answer) == "fine"


async def test_an_unreachable_provider_is_told(database: str, tmp_path: Path) -> None:
    """A provider that nobody listens for is a 502 that names its host."""
    async with GatewayProcess(database, "http://127.0.0.1:9", tmp_path / "log") as gateway:
        response = await gateway.ask()

    assert response.status_code == 502
    assert response.json()["error"]["type"] == "upstream_unreachable"


async def test_anthropic_is_spoken(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """Messages go to Anthropic's path with its key header, and its usage is metered."""
    body = question(model="claude-haiku-4-5-20251001", max_tokens=50)
    response = await gateway.client.post(
        "/anthropic/v1/messages", json=body, headers={"x-api-key": gateway.token()}
    )

    assert response.json()["content"] == [{"type": "text", "text": "an answer"}]
    assert response.headers["x-qe-cost-usd"] == "0.0015"
    seen = (await provider.requests())[0]
    assert (seen.path, seen.key) == ("/v1/messages", KEY)


async def test_what_is_asked_wrongly_is_told(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """Unknown providers, wrong paths and bodies that aren't objects get typed errors, and nothing is sent."""
    headers = {"authorization": f"Bearer {gateway.token()}"}
    found = [
        (await gateway.client.post(path, content=content, headers=headers)).status_code
        for path, content in [
            ("/nobody/v1/chat/completions", b"{}"),
            ("/openai/v1/audio/speech", b"{}"),
            ("/groq/v1/chat/completions", b'{"model": "x"}'),
            (CHAT, b"[1]"),
            (CHAT, b'{"model": "a\\u0000b"}'),
            (CHAT, b"[" * 100_000),
        ]
    ]

    assert found == [404, 404, 401, 400, 400, 400]
    assert await provider.requests() == []


async def test_strangers_are_refused(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """A token that is missing, forged, altered or expired buys nothing."""
    good = gateway.token()
    tokens = [
        "x",
        "qe1.e30.AAAA",
        mint(gateway.identity(), "guessed"),
        mint(gateway.identity(), SECRET, ttl_s=-1),
        good[:-6] + "AAAAAA",
    ]
    answers = [await gateway.ask(token=token) for token in tokens]

    assert [answer.status_code for answer in answers] == [401] * len(tokens)
    assert await provider.requests() == []


async def test_the_key_stays_in_the_gateway(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """The provider gets the key; the ledger, the log and a provider's error that repeats it don't show it."""
    await provider.script([Rule(reply=f"the key is {KEY}")])
    answer = await gateway.ask()

    assert (await provider.requests())[0].key == KEY
    assert KEY not in answer.text
    assert KEY not in gateway.log.read_text()
    dump = await pool.fetch(
        "SELECT c::text FROM model_calls c UNION ALL SELECT a::text FROM model_attempts a"
    )
    assert all(KEY not in row["c"] and KEY.encode().hex() not in row["c"] for row in dump)
