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
from five_graphs import ANSWER, FIVE, LATER, connected_session
from gateway_process import SECRET, GatewayProcess
from lionagi import Builder, Session
from lionagi.protocols.graph.graph import Graph
from pydantic import BaseModel

from qefleet.contracts.flows import FlowInput
from qefleet.errors import GraphError, ModelRefused, ModelUnavailable, ModelUnusable
from qefleet.graphs.convert import to_flow
from qefleet.graphs.operate import GraphOperations
from qefleet.graphs.plain import plain_result
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

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
    await provider.script(LATER)
    async with connected_session(provider.url) as connected:
        yield connected


class Count(BaseModel):
    count: int


class Durably:
    """Runs a flow's nodes as activities would, in order of their dependencies, those that can at once."""

    def __init__(self, pool: asyncpg.Pool, gateway: GatewayProcess) -> None:
        self.run_id = uuid4()
        self._operations = GraphOperations(pool=pool, gateway_url=gateway.url, secret=SECRET, timeout_s=30)

    async def node(self, flow: FlowInput, step: str, *, model: str = MODEL) -> Any:
        assert flow.steps is not None
        return await self._operations.run(
            run_id=self.run_id, workflow_id="wf-1", step=step, flow=flow.steps, dependencies={}, model=model
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


async def test_a_conversation_goes_on(provider: ScriptedProvider, session: Session, durably: Durably) -> None:
    """What was said before the flow, its context, and a branch that begins anew are as in `Session.flow`."""
    ada = session.get_branch("ada")
    await ada.communicate(instruction="Hello.", context={"z": 1, "a": [True]})
    builder = Builder()
    first = builder.add_operation("communicate", instruction="One.", branch=ada)
    second = builder.add_operation("chat", depends_on=[first], instruction="Two.", branch=ada)
    third = builder.add_operation(
        "communicate", depends_on=[second], instruction="Three.", branch=ada, clear_messages=True
    )
    builder.add_operation("operate", depends_on=[third], instruction="Four.", branch=ada)
    graph = builder.get_graph()
    flow = to_flow(graph, session=session, model=MODEL, context={"shown": "to all"})
    await provider.reset()

    await durably.all(flow)
    sent_durably = [seen.body for seen in await provider.requests()]
    await provider.reset()
    await session.flow(graph, context={"shown": "to all"})

    assert sent_durably == [seen.body for seen in await provider.requests()]
    assert [len(body["messages"]) for body in sent_durably] == [3, 5, 1, 3]


def count_it(**more: Any) -> FlowInput:
    builder = Builder()
    builder.add_operation("operate", node_id="count", instruction="Count.", response_format=Count, **more)
    return to_flow(builder.get_graph())


@pytest.mark.usefixtures("session")
async def test_repairs_are_calls_of_their_own(
    provider: ScriptedProvider, durably: Durably, pool: asyncpg.Pool
) -> None:
    """lionagi has an answer that doesn't fit reformatted: each request has its ordinal, and is paid once."""
    await provider.script(
        [
            Rule(match="This is attempt 2", reply='{"count": 3}'),
            Rule(match="reformat", reply="Still none."),
            Rule(reply="No number."),
        ]
    )

    result = await durably.node(count_it(), "count")
    await pool.execute("DELETE FROM operations WHERE run_id = $1", durably.run_id)
    again = await durably.node(count_it(), "count")

    rows = await pool.fetch(
        "SELECT ordinal, step, attempts FROM model_calls WHERE run_id = $1 ORDER BY ordinal", durably.run_id
    )
    assert result == again == {"count": 3}
    assert [tuple(row) for row in rows] == [(ordinal, "count/operate", 1) for ordinal in range(3)]
    assert len(await provider.requests()) == 3


@pytest.mark.usefixtures("session")
async def test_an_outage_is_no_answer(
    provider: ScriptedProvider, durably: Durably, pool: asyncpg.Pool
) -> None:
    """A repair that can't reach its model fails the attempt; the next one pays for the repair alone."""
    await provider.script([Rule(match="reformat", status=503, times=1), Rule(reply="No number.", times=1)])
    with pytest.raises(ModelUnavailable):
        await durably.node(count_it(), "count")
    written = await pool.fetchval("SELECT count(*) FROM operations WHERE run_id = $1", durably.run_id)

    await provider.script([Rule(match="reformat", reply='{"count": 3}')])
    result = await durably.node(count_it(), "count")

    assert (written, result) == (0, {"count": 3})
    assert len(await provider.requests()) == 3


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (Rule(reply=""), ModelUnusable, "the answer was empty"),
        (Rule(reply="x", fault="malformed"), ModelUnavailable, "can't answer now"),
        (Rule(status=400), ModelRefused, "openai refuses the call"),
        (Rule(reply="x", finish_reason="content_filter"), ModelRefused, "declines to answer"),
        (Rule(status=429, retry_after_s=3), ModelUnavailable, "can't answer now"),
    ],
    ids=["empty", "malformed", "refused", "filtered", "rate limit"],
)
@pytest.mark.usefixtures("session")
async def test_failures(
    provider: ScriptedProvider, durably: Durably, rule: Rule, error: type[Exception], message: str
) -> None:
    """A node whose model gives nothing usable fails, with one request, and nothing is written."""
    await provider.script([rule])
    builder = Builder()
    builder.add_operation("communicate", node_id="it", instruction="Go.")

    with pytest.raises(error, match=message):
        await durably.node(to_flow(builder.get_graph()), "it")

    assert len(await provider.requests()) == 1


@pytest.mark.usefixtures("session")
async def test_an_answer_that_does_not_fit(provider: ScriptedProvider, durably: Durably) -> None:
    """`handle_validation` decides, as in lionagi: the text is the result, or the node fails."""
    await provider.script([Rule(reply="No number.")])

    kept = await durably.node(count_it(), "count")
    durably.run_id = uuid4()
    with pytest.raises(ModelUnusable, match="count: Failed to parse"):
        await durably.node(count_it(handle_validation="raise"), "count")

    assert kept == "No number."


@pytest.mark.usefixtures("session")
async def test_no_model(durably: Durably) -> None:
    """Without a model only what needs none is done; anything else says what to set."""
    builder = Builder()
    builder.add_operation("parse", node_id="parse", depends_on=[], text="{'count': 1}", response_format=Count)
    builder.add_operation("chat", node_id="ask", depends_on=[], instruction="Why?")
    flow = to_flow(builder.get_graph(), model="none")

    parsed = await durably.node(flow, "parse", model="none")
    with pytest.raises(ModelRefused, match="QE_MODEL"):
        await durably.node(flow, "ask", model="none")

    assert parsed == {"count": 1}


async def test_what_another_run_has_done(
    provider: ScriptedProvider, session: Session, durably: Durably
) -> None:
    """A given step takes over result and messages; one that there isn't is refused."""
    first = to_flow(FIVE["fan-out"](session), session=session, model=MODEL)
    result = await durably.node(first, "plan")
    run, durably.run_id = durably.run_id, uuid4()
    given = {"kind": "given", "parameters": {"run": str(run), "step": "plan"}}
    heir = {"kind": "chat", "own": True, "inherit_from": "old", "parameters": {"instruction": "And?"}}
    flow = FlowInput.model_validate(
        {
            "steps": [
                {"id": "old", "operation": given},
                {"id": "heir", "depends_on": ["old"], "operation": heir},
                {"id": "lost", "operation": {"kind": "given", "parameters": {"run": str(run), "step": "x"}}},
            ]
        }
    )
    await provider.reset()

    taken = await durably.node(flow, "old")
    await durably.node(flow, "heir")
    with pytest.raises(GraphError, match="isn't in this database"):
        await durably.node(flow, "lost")

    seen = await provider.requests()
    assert taken == result
    assert [len(request.body["messages"]) for request in seen] == [3]
