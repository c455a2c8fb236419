"""What is lost and what is paid twice when the gateway or Postgres dies in mid-call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from gateway_process import GatewayProcess

from qefleet.llm.receipts import receipt
from qefleet.sql.database import open_pool
from qefleet.sql.embedded import EmbeddedPostgres
from qefleet.sql.migrate import migrate
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider([Rule(reply="an answer", latency_s=0.7)]) as server:
        yield server


async def _killed_in_mid_call(gateway: GatewayProcess, provider: ScriptedProvider) -> None:
    asking = asyncio.create_task(gateway.ask())
    await provider.arrived()
    await gateway.kill()
    with pytest.raises(httpx.TransportError):
        await asking


async def test_a_killed_gateway_buys_again_and_tells(
    database: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """A call in flight at a SIGKILL is sent again once its lease is over, and `attempts` shows it."""
    async with GatewayProcess(database, provider.url, tmp_path / "log", QE_LEASE_S="2") as gateway:
        await _killed_in_mid_call(gateway, provider)
        await gateway.start()
        answer = await gateway.ask()

        assert answer.status_code == 200
        assert len(await provider.requests()) == 2
        async with await open_pool(database) as pool:
            found = await receipt(pool, gateway.identity())
            rows = await pool.fetch("SELECT outcome FROM model_attempts ORDER BY started_at")
    assert found is not None
    assert (found.attempts, found.state) == (2, "answered")
    assert [row["outcome"] for row in rows] == ["lost", "answered"]


async def test_on_unknown_fail_never_pays_twice(
    database: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """With QE_ON_UNKNOWN=fail a call whose attempt ended unseen is refused instead of sent again."""
    settings = {"QE_LEASE_S": "2", "QE_ON_UNKNOWN": "fail"}
    async with GatewayProcess(database, provider.url, tmp_path / "log", **settings) as gateway:
        await _killed_in_mid_call(gateway, provider)
        await gateway.start()
        answer = await gateway.ask()

    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "outcome_unknown")
    assert len(await provider.requests()) == 1


async def test_a_stopped_gateway_finishes_its_calls(
    database: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """SIGTERM in mid-call: the answer is kept before the process ends."""
    async with GatewayProcess(database, provider.url, tmp_path / "log") as gateway:
        asking = asyncio.create_task(gateway.ask())
        await provider.arrived()
        await gateway.stop()
        answer = await asking

        assert answer.status_code == 200
        async with await open_pool(database) as pool:
            found = await receipt(pool, gateway.identity())
    assert found is not None
    assert found.state == "answered"


async def test_postgres_killed_in_mid_call(
    provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """While an answer is on its way Postgres dies and comes back: the answer is kept, and bought once."""
    folder = tmp_path_factory.mktemp("pg")
    async with EmbeddedPostgres(folder / "data") as server:
        await migrate(server.dsn)
        async with GatewayProcess(server.dsn, provider.url, folder / "log") as gateway:
            asking = asyncio.create_task(gateway.ask())
            await provider.arrived()
            await server.kill()
            await asyncio.sleep(1)
            await server.start()
            first, again = await asking, await gateway.ask()

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["x-qe-replayed"] == "true"
    assert len(await provider.requests()) == 1
