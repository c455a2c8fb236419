"""The client through the real gateway and its ledger: what is bought once, and what is told how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from gateway_process import KEY, SECRET, GatewayProcess
from pydantic import BaseModel

from qefleet.errors import BudgetExceeded, ModelRefused, ModelUnavailable
from qefleet.llm.client import ModelClient, Question
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

MODEL = "openai/gpt-4.1-mini"
GOOD = '{"code": "assert True"}'


class Out(BaseModel):
    code: str


QUESTION = Question(system="You test.", instruction="Write.", context="x = 1", response=Out)


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as server:
        yield server


@pytest.fixture(scope="module")
async def shared(
    postgres: ThrowAwayPostgres, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayProcess]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    async with postgres.database() as dsn, GatewayProcess(dsn, provider.url, log) as process:
        yield process


@pytest.fixture
async def gateway(shared: GatewayProcess, provider: ScriptedProvider) -> GatewayProcess:
    """One process for all tests here; for each a run of its own and a provider that has seen nothing."""
    shared.run = uuid4()
    await provider.reset()
    await provider.script([Rule(reply=GOOD)])
    return shared


@pytest.fixture
def client(gateway: GatewayProcess) -> ModelClient:
    return ModelClient(gateway_url=gateway.url, secret=SECRET, timeout_s=30)


@pytest.mark.parametrize("model", [MODEL, "anthropic/claude-haiku-4-5", "local"])
async def test_an_answer_is_bought_once(
    gateway: GatewayProcess, provider: ScriptedProvider, client: ModelClient, model: str
) -> None:
    """Asked again, as after a worker's crash, the same answer comes out of the ledger."""
    first = await client.ask(QUESTION, model=model, identity=gateway.identity())
    again = await client.ask(QUESTION, model=model, identity=gateway.identity())

    seen = await provider.requests()
    assert first == again
    assert first.value.code == "assert True"
    assert [request.key for request in seen] == ["" if model == "local" else KEY]


async def test_repairs_are_bought_once_too(
    gateway: GatewayProcess, provider: ScriptedProvider, client: ModelClient
) -> None:
    """The replies that couldn't be used are in the ledger as well, each under an ordinal of its own."""
    await provider.script([Rule(reply="Sure!", times=2), Rule(reply=GOOD)])

    first = await client.ask(QUESTION, model=MODEL, identity=gateway.identity())
    again = await client.ask(QUESTION, model=MODEL, identity=gateway.identity())

    assert (first.attempts, first.ordinal) == (3, 2)
    assert first == again
    assert len(await provider.requests()) == 3


async def test_a_call_given_up_half_way_is_not_lost(
    gateway: GatewayProcess, provider: ScriptedProvider, client: ModelClient
) -> None:
    """A cancelled call's answer is still taken in; who asks again attaches to it."""
    await provider.script([Rule(reply=GOOD, latency_s=2)])

    first = asyncio.create_task(client.ask(QUESTION, model=MODEL, identity=gateway.identity()))
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.wait([first])
    again = await client.ask(QUESTION, model=MODEL, identity=gateway.identity())

    assert again.value.code == "assert True"
    assert len(await provider.requests()) == 1


async def test_a_rate_limit_passes_through(
    gateway: GatewayProcess, provider: ScriptedProvider, client: ModelClient
) -> None:
    """Retry-After arrives, and the next try is a new request: an error is no answer."""
    await provider.script([Rule(status=429, retry_after_s=3, times=1), Rule(reply=GOOD)])

    with pytest.raises(ModelUnavailable) as raised:
        await client.ask(QUESTION, model=MODEL, identity=gateway.identity())
    reply = await client.ask(QUESTION, model=MODEL, identity=gateway.identity())

    assert raised.value.retry_after_s == 3
    assert reply.attempts == 1


async def test_a_spent_budget_ends_the_run(gateway: GatewayProcess, client: ModelClient) -> None:
    """Once the run has spent what it may, the next call is refused in plain words."""
    async with await open_pool(gateway.database) as pool:
        await pool.execute(
            "insert into runs (run_id, workflow_id, pattern, input, model, budget_usd, target) "
            "values ($1, 'wf-1', 'Pipeline', $2, 'm', 0.0000001, 't')",
            gateway.run,
            {},
        )

    await client.ask(QUESTION, model=MODEL, identity=gateway.identity())
    with pytest.raises(BudgetExceeded, match=r"has spent .* larger budget_usd"):
        await client.ask(QUESTION, model=MODEL, identity=gateway.identity(ordinal=9))


async def test_a_wrong_secret(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    """Who doesn't have the gateway's secret is refused for good, and nothing is sent on."""
    stranger = ModelClient(gateway_url=gateway.url, secret="another secret", timeout_s=5)

    with pytest.raises(ModelRefused, match="gateway refuses"):
        await stranger.ask(QUESTION, model=MODEL, identity=gateway.identity())

    assert await provider.requests() == []


async def test_a_provider_without_a_key(gateway: GatewayProcess, client: ModelClient) -> None:
    """The message names the variable to set."""
    with pytest.raises(ModelRefused, match="GROQ_API_KEY"):
        await client.ask(QUESTION, model="groq/llama", identity=gateway.identity())


async def test_a_model_that_there_is_not(gateway: GatewayProcess, client: ModelClient) -> None:
    """A provider that nobody knows is refused with those that are known."""
    with pytest.raises(ModelRefused, match="openai"):
        await client.ask(QUESTION, model="nobody/x", identity=gateway.identity())


async def test_a_gateway_that_is_gone(gateway: GatewayProcess) -> None:
    """Nobody listening is transient: the supervisor starts it again."""
    nobody = ModelClient(gateway_url="http://127.0.0.1:9", secret=SECRET, timeout_s=5)

    with pytest.raises(ModelUnavailable, match="qe up"):
        await nobody.ask(QUESTION, model=MODEL, identity=gateway.identity())
