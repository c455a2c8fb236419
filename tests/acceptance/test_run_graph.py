"""lionagi graphs through the whole system: the workflow `Flow` on real workers, against `Session.flow`."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from five_graphs import ANSWER, FIVE, LATER, Finding, by_session_flow, connected_session, results_in_order
from lionagi import Builder
from running_fleet import RunningFleet, running_fleet
from temporalio.client import WorkflowFailureError

from qefleet.contracts.flows import FlowInput
from qefleet.errors import GraphError
from qefleet.graphs.run import run_graph
from qefleet.testing.script import Rule

MODEL = "openai/gpt-4.1-mini"


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(tmp_path_factory.mktemp("data"), replies=ANSWER) as running:
        await running.provider.script(LATER)
        yield running


async def test_five_graphs_give_what_session_flow_gives(fleet: RunningFleet) -> None:
    """All five at once, by one call each; the same instances, objects and texts."""
    async with connected_session(fleet.provider.url) as session:
        graphs = {name: build(session) for name, build in FIVE.items()}

        durable = await asyncio.gather(
            *(
                run_graph(fleet.client, graph, workflow_id=f"five-{name}", session=session, model=MODEL)
                for name, graph in graphs.items()
            )
        )

    expected = [await by_session_flow(fleet.provider.url, name) for name in FIVE]
    found = [
        results_in_order(graph, results) for graph, results in zip(graphs.values(), durable, strict=True)
    ]
    assert found == expected


async def test_running_it_again_attaches(fleet: RunningFleet) -> None:
    """A script that is started anew with the same id gets the results, and no request is made; another graph
    under that id is refused."""
    async with connected_session(fleet.provider.url) as session:
        first_graph = FIVE["aggregation"](session)
        first = await run_graph(fleet.client, first_graph, workflow_id="again", session=session, model=MODEL)
        await fleet.provider.reset()
    async with connected_session(fleet.provider.url) as session:
        graph = FIVE["aggregation"](session)
        again = await run_graph(fleet.client, graph, workflow_id="again", session=session, model=MODEL)
        with pytest.raises(GraphError, match="another graph"):
            await run_graph(
                fleet.client, FIVE["fan-in"](session), workflow_id="again", session=session, model=MODEL
            )

    assert results_in_order(graph, again) == results_in_order(first_graph, first)
    assert await fleet.provider.requests() == []


async def test_a_graph_is_expanded_from_a_result(fleet: RunningFleet) -> None:
    """Build, run, expand from the result, run again: what was run before is taken over, not paid again."""
    builder = Builder()
    split = builder.add_operation("communicate", instruction="Split it.", response_format=Finding)
    first = await run_graph(fleet.client, builder.get_graph(), workflow_id="expand-1", model=MODEL)
    await fleet.provider.reset()

    lines = builder.expand_from_result(
        [{"line": line} for line in first[split].lines],
        split,
        "communicate",
        inherit_context=True,
        instruction="Look at it.",
    )
    second = await run_graph(fleet.client, builder.get_graph(), workflow_id="expand-2", model=MODEL)

    seen = await fleet.provider.requests()
    assert isinstance(first[split], Finding)
    assert second[split] == first[split]
    assert set(second) == {split, *lines}
    assert len(seen) == len(lines) == 1
    assert [message["role"] for message in seen[0].body["messages"]] == ["user", "assistant", "user"]


async def test_a_node_fails_for_good(fleet: RunningFleet) -> None:
    """The run ends with the node's name; with `on_failure="continue"` its dependents see why it failed."""
    await fleet.provider.script([Rule(match="One", status=400), Rule(reply="fine")])
    builder = Builder()
    first = builder.add_operation("communicate", node_id="first", instruction="One.")
    second = builder.add_operation("chat", node_id="second", instruction="Two.")
    graph = builder.get_graph()

    with pytest.raises(WorkflowFailureError) as stopped:
        await run_graph(fleet.client, graph, workflow_id="stops", model=MODEL)
    await fleet.provider.reset()
    results = await run_graph(
        fleet.client, graph, workflow_id="continues", model=MODEL, on_failure="continue"
    )

    seen = await fleet.provider.requests()
    assert "first failed: openai refuses the call (HTTP 400)" in str(stopped.value.cause)
    assert list(results[first]) == ["error"]
    assert results[second] == "fine"
    assert f"{first}_result:\n    error: " in seen[-1].prompt


async def test_the_example_in_the_docs(fleet: RunningFleet) -> None:
    """The page's script, as it stands there, prints an answer; the second one prints a workflow's input."""
    await fleet.provider.reset()
    page = (Path(__file__).parents[2] / "docs" / "lionagi-graphs.md").read_text()
    whole, input_only = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    await fleet.provider.script(
        [
            Rule(match="Name the risks", reply={"names": ["it fails", "it is slow"]}, times=1),
            Rule(reply="fine"),
        ]
    )
    address = fleet.services.up.addresses.temporal

    async def output(script: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=subprocess.PIPE, cwd="/"
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    first = await output(whole.replace("localhost:7233", address))
    again = await output(whole.replace("localhost:7233", address))
    printed = await output(input_only)

    assert (first, again) == ("fine", "fine")
    assert FlowInput.model_validate_json(printed).steps
    assert len(await fleet.provider.requests()) == 4
