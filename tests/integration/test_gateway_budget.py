"""Budgets: what a run may spend, however many of its calls run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
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


async def _open_run(
    pool: asyncpg.Pool,
    gateway: GatewayProcess,
    budget: Decimal | None,
    *,
    agents: Mapping[str, float] | None = None,
    project: str = "/x",
) -> None:
    steps = [{"step": step, "budget_usd": usd} for step, usd in (agents or {}).items()]
    await pool.execute(
        "INSERT INTO runs (run_id, workflow_id, pattern, input, model, target, budget_usd, plan)"
        " VALUES ($1, 'wf-1', 'Pipeline', '{}', 'openai/gpt-4.1-mini', $4, $2, $3)",
        gateway.run,
        budget,
        {"steps": steps},
        project,
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
        "message": "the run has spent 1 of 1 USD: start another run with a larger budget_usd",
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


async def test_many_small_calls_at_once_end_at_the_budget(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """A budget of 0.10 USD and 40 calls of 0.016 at once, as many as fit: over by less than one call."""
    small = Rule(reply="x", input_tokens=20, output_tokens=10_000, latency_s=0.05)
    await provider.script([small])
    await _open_run(pool, gateway, Decimal("0.10"))
    body = question(max_tokens=10_000)
    answers = await asyncio.gather(*(gateway.ask(body, who=gateway.identity(ordinal=n)) for n in range(40)))
    later = await gateway.ask(body, who=gateway.identity(ordinal=99))

    spent = (await usage_of(pool, gateway.run)).cost_usd
    assert spent is not None
    assert 0.10 <= spent < 0.10 + 0.016008
    assert {answer.status_code for answer in answers} == {200, 402}
    assert later.status_code == 402
    assert len(await provider.requests()) == 7


async def test_an_agent_has_a_budget_of_its_own(gateway: GatewayProcess, pool: asyncpg.Pool) -> None:
    """All calls of the agent's step count, those of its items too; the other agents go on."""
    await _open_run(pool, gateway, Decimal(100), agents={"test-generator#1": 1.5, "test-generator#10": 9})
    asked = [
        await gateway.ask(who=gateway.identity(step))
        for step in ("test-generator#1/0/a/1", "test-generator#1/1/b/1", "test-generator#1/2/c/1")
    ]
    sibling = await gateway.ask(who=gateway.identity("test-generator#10/judge"))

    assert [each.status_code for each in asked] == [200, 200, 402]
    assert asked[2].json()["error"]["message"] == (
        "test-generator#1 has spent 2 of 1.5 USD, its agent's own budget: "
        "give the agent a larger budget_usd in another run"
    )
    assert sibling.status_code == 200


async def test_an_agents_calls_at_once_overshoot_by_one_at_most(
    gateway: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool
) -> None:
    """As for the run's budget: seven of ten are refused."""
    await provider.script([ONE_CALL.model_copy(update={"latency_s": 0.1})])
    await _open_run(pool, gateway, None, agents={"gen": 2.5})
    answers = await asyncio.gather(*(gateway.ask(who=gateway.identity(f"gen/{n}")) for n in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [402] * 7


async def test_a_project_has_a_budget_over_all_its_runs(
    shared: GatewayProcess, provider: ScriptedProvider, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    """A project's runs share it, by the database's day; another has its own; a new day begins at 0."""
    await provider.reset()
    await provider.script([ONE_CALL.model_copy(update={"latency_s": 0.05})])
    limits = {"QE_PROJECT_BUDGET_USD": "2.5", "QE_PROJECT_BUDGET_PERIOD": "day"}
    async with GatewayProcess(shared.database, provider.url, tmp_path / "log", **limits) as gateway:
        whose = {uuid4(): "one", uuid4(): "one", uuid4(): "two"}
        for gateway.run, project in whose.items():
            await _open_run(pool, gateway, None, project=project)

        async def ask(project: str, ordinal: int) -> httpx.Response:
            run = [run for run, of in whose.items() if of == project][ordinal % 2 if project == "one" else 0]
            who = gateway.identity(ordinal=ordinal).model_copy(update={"run_id": run})
            return await gateway.ask(who=who)

        at_once = await asyncio.gather(*(ask("one", n) for n in range(8)))
        other = await ask("two", 0)
        yesterday = "UPDATE model_attempts SET started_at = started_at - interval '1 day' WHERE run_id = $1"
        for run in whose:
            await pool.execute(yesterday, run)
        next_day = await ask("one", 100)

    assert sorted(answer.status_code for answer in at_once) == [200] * 3 + [402] * 5
    refused = next(answer for answer in at_once if answer.status_code == 402)
    assert refused.json()["error"]["message"] == (
        "project one has spent 3 of 2.5 USD of this day: raise QE_PROJECT_BUDGET_USD where the gateway runs, "
        "or wait for the next day (UTC)"
    )
    assert [other.status_code, next_day.status_code] == [200, 200]


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
