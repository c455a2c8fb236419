"""Budgets: what a run may spend, however many of its calls run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from gateway_process import GatewayProcess, question

from qefleet.llm.receipts import usage_of
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

# gpt-4.1-mini: 0.4 and 1.6 USD per million tokens.
ONE_CALL = Rule(reply="x", input_tokens=500_000, output_tokens=500_000)
ONE_CALL_USD = Decimal("1.0")


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
    shared.run = uuid4()
    await provider.reset()
    await provider.script([ONE_CALL])
    return shared


@pytest.fixture(scope="module")
async def pool(shared: GatewayProcess) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(shared.database) as opened:
        yield opened


async def _open_run(pool: asyncpg.Pool, gateway: GatewayProcess, budget: Decimal) -> None:
    await pool.execute(
        "INSERT INTO runs (run_id, workflow_id, pattern, input, model, target, budget_usd)"
        " VALUES ($1, 'wf-1', 'Pipeline', '{}', 'openai/gpt-4.1-mini', '/x', $2)",
        gateway.run,
        budget,
    )


async def test_a_spent_budget_refuses(gateway: GatewayProcess, pool: asyncpg.Pool) -> None:
    """Once the run has spent its budget the next call is a 402 that says so; stored answers still come."""
    await _open_run(pool, gateway, ONE_CALL_USD)
    bought = await gateway.ask()
    refused = await gateway.ask(who=gateway.identity(ordinal=1))
    replayed = await gateway.ask()

    assert [each.status_code for each in (bought, refused, replayed)] == [200, 402, 200]
    assert refused.json()["error"] == {
        "type": "budget_exceeded",
        "message": "the run has spent 1 of its 1 USD",
    }


async def test_calls_at_once_overshoot_by_one_at_most(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """Ten calls at once under a budget of two and a half: three are made, the others refused."""
    await provider.script([ONE_CALL.model_copy(update={"latency_s": 0.1})])
    await _open_run(pool, gateway, ONE_CALL_USD * Decimal("2.5"))
    answers = await asyncio.gather(*(gateway.ask(who=gateway.identity(ordinal=n)) for n in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [402] * 7
    assert (await usage_of(pool, gateway.run)).cost_usd == 3.0


async def test_a_wide_budget_lets_calls_run_together(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """Calls whose worst cases fit into the budget together don't wait for each other."""
    await provider.script([Rule(reply="x", latency_s=0.5)])
    await _open_run(pool, gateway, Decimal(100))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    body = question(max_tokens=1000)
    await asyncio.gather(*(gateway.ask(body, who=gateway.identity(ordinal=n)) for n in range(8)))

    assert loop.time() - begun < 3
    times = [request.at for request in await provider.requests()]
    assert max(times) - min(times) < 0.5


async def test_a_budget_needs_a_price(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """A model without a price is refused under a budget, and the message names the way out."""
    await _open_run(pool, gateway, Decimal(1))
    refused = await gateway.ask(question(model="made-up"))

    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "price_unknown")
    assert "QE_PRICES" in refused.json()["error"]["message"]
    assert await provider.requests() == []


async def test_without_a_budget_an_unpriced_model_is_asked(
    gateway: GatewayProcess, pool: asyncpg.Pool
) -> None:
    """The answer comes, its cost is unknown, and so is the run's."""
    answer = await gateway.ask(question(model="made-up"))

    assert answer.status_code == 200
    assert "x-qe-cost-usd" not in answer.headers
    assert (await usage_of(pool, gateway.run)).cost_usd is None


async def test_own_prices_and_the_local_model(
    database: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """QE_PRICES prices what the shipped table doesn't know; the local model costs nothing."""
    prices = tmp_path / "prices.toml"
    prices.write_text('[openai]\n"made-up" = { input = 2, output = 4 }\n')
    await provider.script([ONE_CALL])
    async with GatewayProcess(database, provider.url, tmp_path / "log", QE_PRICES=str(prices)) as gateway:
        priced = await gateway.ask(question(model="made-up"))
        local = await gateway.ask(path="/local/v1/chat/completions")

    assert (priced.headers["x-qe-cost-usd"], local.headers["x-qe-cost-usd"]) == ("3", "0")


async def test_steps_are_told_apart(gateway: GatewayProcess, pool: asyncpg.Pool) -> None:
    """A step's usage has its parts in it, and not those of a step whose name begins alike."""
    for step in ("test-generator#1", "test-generator#1/a/1", "test-generator#10"):
        await gateway.ask(who=gateway.identity(step))

    assert (await usage_of(pool, gateway.run, "test-generator#1")).calls == 2
    assert (await usage_of(pool, gateway.run)).calls == 3
