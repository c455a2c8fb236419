"""Nodes of lionagi's graphs, run from Postgres through the real gateway, against `Session.flow` itself."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from graphlib import TopologicalSorter
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from five_graphs import ANSWER, FIVE, connected_session
from gateway_process import SECRET, GatewayProcess
from lionagi import Session
from lionagi.protocols.graph.graph import Graph

from qefleet.contracts.flows import FlowInput
from qefleet.graphs.convert import to_flow
from qefleet.graphs.operate import GraphOperations
from qefleet.graphs.plain import plain_result
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider

MODEL = "openai/gpt-4.1-mini"
GRAPHS = pytest.mark.parametrize("name", FIVE)


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(replies=ANSWER) as server:
        yield server


@pytest.fixture(scope="module")
async def gateway(
    postgres: ThrowAwayPostgres, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayProcess]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    async with postgres.database() as dsn, GatewayProcess(dsn, provider.url, log) as process:
        yield process


@pytest.fixture(scope="module")
async def pool(gateway: GatewayProcess) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(gateway.database) as opened:
        yield opened


@pytest.fixture
async def session(provider: ScriptedProvider) -> AsyncIterator[Session]:
    """Branches that reach the scripted provider directly."""
    await provider.reset()
    async with connected_session(provider.url) as connected:
        yield connected


class Durably:
    """Runs a flow's nodes as activities would, in order of their dependencies, those that can at once."""

    def __init__(self, pool: asyncpg.Pool, gateway: GatewayProcess) -> None:
        self.run_id = uuid4()
        self._operations = GraphOperations(pool=pool, gateway_url=gateway.url, secret=SECRET, timeout_s=30)

    async def node(self, flow: FlowInput, step: str) -> Any:
        assert flow.steps is not None
        return await self._operations.run(
            run_id=self.run_id, workflow_id="wf-1", step=step, flow=flow.steps, dependencies={}, model=MODEL
        )

    async def all(self, flow: FlowInput, *, times: int = 1) -> dict[str, Any]:
        assert flow.steps is not None
        results: dict[str, Any] = {}
        order = TopologicalSorter({step.id: step.depends_on for step in flow.steps})
        order.prepare()
        while ready := order.get_ready():
            for _ in range(times):
                results |= zip(
                    ready, await asyncio.gather(*(self.node(flow, step) for step in ready)), strict=True
                )
            order.done(*ready)
        return results


@pytest.fixture
def durably(pool: asyncpg.Pool, gateway: GatewayProcess) -> Durably:
    return Durably(pool, gateway)


async def by_session(session: Session, graph: Graph[Any], flow: FlowInput) -> dict[str, Any]:
    """What `Session.flow` gives, by the flow's step ids, as JSON."""
    assert flow.steps is not None
    results = (await session.flow(graph))["operation_results"]
    names = {step.operation.node: step.id for step in flow.steps if step.operation}
    return {names[str(node)]: plain_result(result, node="") for node, result in results.items()}


@GRAPHS
async def test_the_same_requests_and_results(
    provider: ScriptedProvider, session: Session, durably: Durably, name: str
) -> None:
    """Each of the five graphs sends what `Session.flow` sends, to the letter, and gives what it gives."""
    graph = FIVE[name](session)
    flow = to_flow(graph, session=session, model=MODEL)

    durable = await durably.all(flow)
    sent_durably = await provider.requests()
    await provider.reset()
    expected = await by_session(session, graph, flow)

    assert durable == expected
    assert len(durable) == len(graph.internal_nodes)
    assert sorted(json.dumps(seen.body) for seen in sent_durably) == sorted(
        json.dumps(seen.body) for seen in await provider.requests()
    )


@GRAPHS
async def test_a_node_run_twice_is_paid_and_written_once(
    provider: ScriptedProvider, session: Session, durably: Durably, pool: asyncpg.Pool, name: str
) -> None:
    """Run three times, and twice more after its row is lost: one request a call, one set of messages."""
    flow = to_flow(FIVE[name](session), session=session, model=MODEL)

    once = await durably.all(flow)
    requests = len(await provider.requests())
    messages = await pool.fetch("SELECT step, position, role FROM messages WHERE run_id = $1", durably.run_id)
    again = await durably.all(flow, times=3)
    await pool.execute("DELETE FROM operations WHERE run_id = $1", durably.run_id)
    anew = await durably.all(flow, times=2)

    assert once == again == anew
    assert len(await provider.requests()) == requests
    rows = await pool.fetch("SELECT step, position, role FROM messages WHERE run_id = $1", durably.run_id)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, messages))
