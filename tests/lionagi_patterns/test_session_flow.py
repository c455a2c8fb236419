"""What `Session.flow` does with a graph: what `qefleet.graphs` does likewise, or refuses for it."""

# lionagi's own signatures leave much bare; what matters here is what happens at run time.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import Any, cast

import pytest
from lionagi import Branch, Builder, Session, iModel
from lionagi.operations.builder import ExpansionStrategy
from lionagi.operations.node import Operation
from pydantic import BaseModel
from stock_lionagi import branch, connected

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


class Out(BaseModel):
    count: int


def session_of(model: iModel, *others: Branch) -> Session:
    session = Session(default_branch=branch(model, "The default."))
    session.include_branches(list(others))
    return session


async def prompts(provider: ScriptedProvider) -> list[str]:
    return [request.prompt for request in await provider.requests()]


async def test_a_node_that_waits_talks_on_a_copy(provider: ScriptedProvider) -> None:
    """The first node is on the default branch, and the next on a copy of it from before the flow."""
    await provider.script([Rule(reply="fine")])
    builder = Builder()
    first = builder.add_operation("communicate", instruction="One.")
    builder.add_operation("communicate", instruction="Two.")

    async with connected(provider.url) as model:
        await session_of(model).flow(builder.get_graph())

    assert await prompts(provider) == [
        "Guidance: The default.\nInstruction: One.",
        f"Guidance: The default.\nInstruction: Two.\nContext:\n- {first}_result: fine",
    ]


async def test_an_heir_keeps_the_default_s_system_message(provider: ScriptedProvider) -> None:
    """Who inherits a conversation from another branch has its turns, but not its system message."""
    await provider.script([Rule(reply="fine")])
    async with connected(provider.url) as model:
        other = branch(model, "Another.")
        builder = Builder()
        first = builder.add_operation("communicate", instruction="One.", branch=other)
        builder.add_operation("chat", depends_on=[first], inherit_context=True, instruction="Two.")

        await session_of(model, other).flow(builder.get_graph())

    sent = (await provider.requests())[1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[0]["content"] == "Guidance: The default.\nInstruction: One."


async def test_a_stranger_s_node_runs_on_the_default_branch(provider: ScriptedProvider) -> None:
    """A branch that isn't in the session is passed over without a word, which is why we refuse it."""
    await provider.script([Rule(reply="fine")])
    async with connected(provider.url) as model:
        builder = Builder()
        builder.add_operation("communicate", instruction="One.", branch=branch(model, "A stranger."))

        await session_of(model).flow(builder.get_graph())

    assert await prompts(provider) == ["Guidance: The default.\nInstruction: One."]


async def test_a_failed_node_is_a_result(provider: ScriptedProvider) -> None:
    """A failure becomes `{"error": …}` and its dependents run: our `on_failure="continue"`."""
    await provider.script([Rule(match="One", status=400), Rule(reply="fine")])
    builder = Builder()
    first = builder.add_operation("communicate", instruction="One.")
    second = builder.add_operation("communicate", instruction="Two.")

    async with connected(provider.url) as model:
        results = (await session_of(model).flow(builder.get_graph()))["operation_results"]

    assert list(results[first]) == ["error"]
    assert results[second] == "fine"


async def test_parse_fails_after_another_node(provider: ScriptedProvider) -> None:
    """The flow adds a context, which `parse` doesn't take: we refuse it at once."""
    await provider.script([Rule(reply="fine")])
    builder = Builder()
    builder.add_operation("communicate", instruction="One.")
    second = builder.add_operation("parse", text='{"count": 1}', response_format=Out)

    async with connected(provider.url) as model:
        results = (await session_of(model).flow(builder.get_graph()))["operation_results"]

    assert "unexpected keyword argument 'context'" in results[second]["error"]


async def test_both_sides_of_a_conditional_branch_run(provider: ScriptedProvider) -> None:
    """No condition stands on the edges that `add_conditional_branch` makes: we refuse them."""
    await provider.script([Rule(reply="fine")])
    builder = Builder()
    builder.add_operation("communicate", instruction="One.")
    nodes = builder.add_conditional_branch("communicate", "communicate", "communicate", instruction="Two?")

    async with connected(provider.url) as model:
        done = await session_of(model).flow(builder.get_graph())

    assert {nodes["true"], nodes["false"]} <= set(done["completed_operations"])


def test_a_context_chain_has_no_edges() -> None:
    """`chain_context` names a node to inherit from, but nothing waits for it: we refuse it."""
    builder = Builder()
    source = builder.add_operation("communicate", instruction="One.")
    first, second = builder.expand_from_result(
        ["a", "b"],
        source,
        "communicate",
        strategy=ExpansionStrategy.SEQUENTIAL,
        inherit_context=True,
        chain_context=True,
    )

    graph = builder.get_graph()
    heir = cast("Operation", graph.internal_nodes[second])
    assert heir.metadata["primary_dependency"] == first
    assert [node.id for node in graph.get_predecessors(heir)] == [source]


async def test_bookkeeping_stays_off_the_wire(provider: ScriptedProvider) -> None:
    """What an expansion and an aggregation add to parameters reaches no provider; its own fields do."""
    await provider.script([Rule(reply="fine")])
    builder = Builder()
    source = builder.add_operation("communicate", instruction="One.")
    parts = builder.expand_from_result(["a"], source, "communicate", instruction="Two.", temperature=0.5)
    builder.add_aggregation("communicate", source_node_ids=parts, instruction="Three.", nonsense=1)

    async with connected(provider.url) as model:
        await session_of(model).flow(builder.get_graph())

    bodies = [request.body for request in await provider.requests()]
    assert [sorted(body) for body in bodies] == [
        ["messages", "model"],
        ["messages", "model", "temperature"],
        ["messages", "model"],
    ]


async def test_an_outage_during_a_repair_passes_for_an_answer(provider: ScriptedProvider) -> None:
    """The raw text is the result when the repair can't reach its model, which is why we look at the calls."""
    await provider.script([Rule(match="reformat", status=500), Rule(reply="No number.")])

    async with connected(provider.url) as model:
        result = await branch(model).operate(instruction="Count.", response_format=Out)

    assert result == "No number."
    assert len(await provider.requests()) == 5


@pytest.mark.parametrize(
    ("value", "shown"), [(["x"], "0: x"), ({"b": 1, "a": 2}, "b: 1\n    a: 2"), (None, None), (7, "7")]
)
async def test_how_a_result_is_shown(provider: ScriptedProvider, value: Any, shown: str | None) -> None:
    """An object keeps the order of its keys, a list becomes an object, and nothing is nothing."""
    await provider.script([Rule(reply="fine")])
    builder = Builder()
    first = builder.add_operation("given", instruction="One.")
    builder.add_operation("communicate", instruction="Two.")

    async def given(**parameters: Any) -> Any:
        del parameters
        return value

    async with connected(provider.url) as model:
        session = session_of(model)
        session.register_operation("given", given)
        await session.flow(builder.get_graph())

    context = (await prompts(provider))[0].partition("Context:\n")[2]
    if shown is None:
        assert context == ""
    else:
        assert context.removeprefix(f"- {first}_result:").strip() == shown
