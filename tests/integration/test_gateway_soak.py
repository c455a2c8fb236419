"""Two gateways under fire: the figures behind "an answer in the ledger is never bought again"."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from gateway_process import GatewayProcess

from qefleet.sql.database import open_pool
from qefleet.sql.embedded import EmbeddedPostgres
from qefleet.sql.migrate import migrate
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

CALLS = 150
CLIENTS = 8
KILLS = 8

pytestmark = pytest.mark.soak


@asynccontextmanager
async def _two(
    server: EmbeddedPostgres, provider: ScriptedProvider, folder: Path
) -> AsyncGenerator[list[GatewayProcess]]:
    first, second = (
        GatewayProcess(server.dsn, provider.url, folder / name, QE_LEASE_S="6") for name in ("0.log", "1.log")
    )
    second.run = first.run
    async with first, second:
        yield [first, second]


class _Fire:
    """Makes calls through two gateways until each is answered, while something is killed now and then."""

    def __init__(self, gateways: list[GatewayProcess]) -> None:
        self.refused: list[str] = []
        self._gateways = gateways
        self._todo = list(range(CALLS))

    async def run(self, kill: Callable[[], Awaitable[None]]) -> None:
        clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(1, 2))
            await kill()
        await asyncio.gather(*clients)

    async def _client(self) -> None:
        while self._todo:
            step = f"s#{self._todo.pop()}"
            while True:
                if await self._answered(step):
                    break
                await asyncio.sleep(0.2)

    async def _answered(self, step: str) -> bool:
        gateway = random.choice(self._gateways)
        try:
            response = await gateway.ask(who=gateway.identity(step))
        except httpx.TransportError:
            return False  # its gateway was killed
        if response.status_code != 200:
            self.refused.append(response.text)
        return response.status_code == 200


async def test_killed_postgres_costs_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Postgres killed eight times under 150 calls: each is answered, none refused, none bought twice."""
    folder = tmp_path_factory.mktemp("soak")
    async with (
        EmbeddedPostgres(folder / "data") as server,
        ScriptedProvider([Rule(reply="ok", latency_s=0.4)]) as provider,
    ):
        await migrate(server.dsn)

        async def kill() -> None:
            await server.kill()
            await asyncio.sleep(random.uniform(0, 0.5))
            await server.start()

        async with _two(server, provider, folder) as gateways:
            fire = _Fire(gateways)
            await fire.run(kill)

        assert fire.refused == []
        assert len(await provider.requests()) == CALLS


async def test_killed_gateways_show_in_attempts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gateways killed eight times: all calls answered, and every call that was sent again is told as lost."""
    folder = tmp_path_factory.mktemp("soak")
    async with (
        EmbeddedPostgres(folder / "data") as server,
        ScriptedProvider([Rule(reply="ok", latency_s=0.4)]) as provider,
    ):
        await migrate(server.dsn)
        async with _two(server, provider, folder) as gateways:

            async def kill() -> None:
                victim = random.choice(gateways)
                await victim.kill()
                await victim.start()

            await _Fire(gateways).run(kill)

        async with await open_pool(server.dsn) as pool:
            lost = await pool.fetchval("SELECT count(*) FROM model_attempts WHERE outcome = 'lost'")
            answered = await pool.fetchval("SELECT count(*) FROM model_attempts WHERE outcome = 'answered'")
        assert answered == CALLS
        assert CALLS <= len(await provider.requests()) <= CALLS + lost
        assert lost <= KILLS * CLIENTS
