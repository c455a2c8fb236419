"""The five graphs while workers are killed between any two of their nodes; every request is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import psutil
import pytest
from five_graphs import ANSWER, FIVE, LATER, by_session_flow, connected_session, results_in_order
from running_fleet import RunningFleet, children, running_fleet

from qefleet.graphs.run import run_graph
from qefleet.sql.database import open_pool

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(tmp_path_factory.mktemp("data"), replies=ANSWER) as running:
        await running.provider.script(LATER)
        yield running


@pytest.fixture(scope="module")
async def pool(fleet: RunningFleet) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(fleet.services.up.addresses.database_url) as opened:
        yield opened


async def kill_after_each_node(pool: asyncpg.Pool, workflow_id: str) -> int:
    """Kill the worker whenever another node of a run has ended, until this is cancelled."""
    seen = killed = 0
    try:
        while True:
            ended = await pool.fetchval(
                "SELECT count(*) FROM operations JOIN runs USING (run_id) WHERE workflow_id = $1", workflow_id
            )
            if ended > seen:
                seen = ended
                for worker in children("worker.main"):
                    with suppress(psutil.NoSuchProcess):  # it died by itself
                        worker.kill()
                killed += 1
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        return killed


@pytest.mark.parametrize("name", FIVE)
async def test_workers_killed_between_nodes(fleet: RunningFleet, pool: asyncpg.Pool, name: str) -> None:
    """Killed after every node that ends, a graph gives what `Session.flow` gives; nothing is paid twice."""
    await fleet.provider.reset()
    expected = await by_session_flow(fleet.provider.url, name)
    requests = len(await fleet.provider.requests())
    await fleet.provider.reset()

    killing = asyncio.create_task(kill_after_each_node(pool, f"crash-{name}"))
    async with connected_session(fleet.provider.url) as session:
        graph = FIVE[name](session)
        results = await run_graph(
            fleet.client, graph, workflow_id=f"crash-{name}", session=session, model="openai/gpt-4.1-mini"
        )
    killing.cancel()
    killed = await killing

    paid = len(await fleet.provider.requests())
    print(f"{name}: {len(expected)} nodes, {killed} kills, {paid} requests of {requests}")  # noqa: T201
    assert results_in_order(graph, results) == expected
    assert paid == requests
    assert killed >= 2
    rows = await pool.fetchrow(
        "SELECT count(*) FILTER (WHERE attempts > 1) AS again, count(*) AS calls FROM model_calls "
        "WHERE workflow_id = $1",
        f"crash-{name}",
    )
    assert rows is not None
    assert (rows["again"], rows["calls"]) == (0, requests)
