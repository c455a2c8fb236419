"""Five graphs, written against lionagi alone, as a user of lionagi has them; and what answers them."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import UUID

from lionagi import Branch, Builder, Session, iModel
from lionagi.operations.builder import ExpansionStrategy
from lionagi.operations.fields import Instruct
from lionagi.protocols.graph.graph import Graph
from pydantic import BaseModel, Field

from qefleet.testing.script import Rule


class Finding(BaseModel):
    """What was found."""

    title: str = Field(description="in five words")
    severity: Literal["low", "high"] = "low"
    lines: list[int] = []
    note: str | None = None


ANSWER = f"{__file__}:answer"
"""For the scripted provider."""
LATER = [Rule(match="Name a chance", latency_s=0.5)]
"""In `Session.flow` the turns of nodes that share a branch stand in the order in which they end."""


@asynccontextmanager
async def connected_session(provider: str) -> AsyncGenerator[Session]:
    """A session with a default branch and two others, all with system messages, that reaches a provider."""
    model = iModel(
        provider="openai",
        model="gpt-4.1-mini",
        base_url=f"{provider}/openai/v1",
        api_key="key",
        allow_local_network=True,
        requires_tokens=False,
        max_retries=1,
        queue_capacity=10_000,
    )
    # Without a log_config a Branch writes prompts and replies to ./data/logs.
    settings: dict[str, Any] = {
        "chat_model": model,
        "log_config": {"auto_save_on_exit": False, "capacity": None},
    }
    session = Session(default_branch=Branch(system="You review code.", name="reviewer", **settings))
    for name in ("ada", "bob"):
        session.include_branches([Branch(system=f"You are {name}.", name=name, **settings)])
    try:
        yield session
    finally:
        await model.close()


def results_in_order(graph: Graph[Any], results: Mapping[UUID, Any]) -> list[Any]:
    """Results in the order in which the nodes were added; models as their fields."""
    found = [results[node.id] for node in graph.internal_nodes]
    return [one.model_dump() if isinstance(one, BaseModel) else one for one in found]


async def by_session_flow(provider: str, name: str) -> list[Any]:
    """What `Session.flow` gives for one of the graphs."""
    async with connected_session(provider) as session:
        graph = FIVE[name](session)
        return results_in_order(graph, (await session.flow(graph))["operation_results"])


def sequence(session: Session) -> Graph[Any]:
    """One after the other: a chain, then two turns of one branch, then one that inherits them."""
    ada = session.get_branch("ada")
    builder = Builder()
    builder.add_operation("communicate", node_id="read", instruction="Read the module.", guidance="Be brief.")
    builder.add_operation("operate", node_id="find", instruction="Find a fault.", response_format=Finding)
    first = builder.add_operation("communicate", node_id="ask", instruction="Explain it.", branch=ada)
    second = builder.add_operation(
        "communicate", node_id="ask-more", depends_on=[first], instruction="And why?", branch=ada
    )
    builder.add_operation(
        "chat", node_id="judge", depends_on=[second], inherit_context=True, instruction="Is that right?"
    )
    return builder.get_graph()


def fan_out(session: Session) -> Graph[Any]:
    """One node, then three that build on it at once, on branches of their own."""
    builder = Builder()
    plan = builder.add_operation(
        "communicate",
        node_id="plan",
        instruction="Plan the review.",
        context={"module": "tabulate", "lines": [1, 2]},
        response_format={"steps": [], "context": {}, "why": ""},
    )
    for name, branch in (("ada", session.get_branch("ada")), ("bob", session.get_branch("bob"))):
        builder.add_operation(
            "communicate",
            node_id=f"{name} reviews",
            depends_on=[plan],
            branch=branch,
            instruction="Review it.",
        )
    builder.add_operation(
        "operate",
        depends_on=[plan],
        inherit_context=True,
        instruction="Review the plan.",
        context=["kept", {"as": "it is"}],
    )
    return builder.get_graph()


def fan_in(session: Session) -> Graph[Any]:
    """Three nodes that wait for nothing, two of them on the default branch, then one that waits for all."""
    builder = Builder()
    roots = [
        builder.add_operation("communicate", depends_on=[], instruction="Name a risk.", temperature=0.3),
        builder.add_operation(
            "communicate", depends_on=[], instruction="Name a chance.", response_format=Finding
        ),
        builder.add_operation(
            "parse", depends_on=[], text="{'title': 'It fails', 'lines': [3,],}", response_format=Finding
        ),
        builder.add_operation(
            "chat", depends_on=[], instruction="Name a cost.", branch=session.get_branch("bob")
        ),
    ]
    builder.add_operation("communicate", node_id="weigh", depends_on=roots, instruction="Weigh them.")
    builder.add_operation(
        "operate", node_id="sum up", depends_on=roots[:2], inherit_context=True, instruction="Sum up."
    )
    return builder.get_graph()


def expansion(session: Session) -> Graph[Any]:
    """A node, and one for each of a list of tasks."""
    del session
    builder = Builder()
    split = builder.add_operation("communicate", node_id="split", instruction="Split the work.")
    builder.expand_from_result(
        [
            Instruct.model_validate({"instruction": f"Do part {part}.", "context": {"part": part}})
            for part in "abc"
        ],
        split,
        "communicate",
        strategy=ExpansionStrategy.CONCURRENT,
        temperature=0.1,
    )
    builder.expand_from_result(
        ["one", "two"], split, "operate", inherit_context=True, instruction="Check it."
    )
    return builder.get_graph()


def aggregation(session: Session) -> Graph[Any]:
    """Nodes side by side, and one that brings them together."""
    builder = Builder()
    start = builder.add_operation("communicate", instruction="Begin.", branch=session.get_branch("ada"))
    parts = [
        builder.add_operation(
            "communicate", depends_on=[start], instruction=f"Look at {part}.", response_format=Finding
        )
        for part in ("names", "types", "tests")
    ]
    builder.add_aggregation(
        "operate",
        node_id="together",
        source_node_ids=parts,
        inherit_context=True,
        inherit_from_source=1,
        instruction="Bring it together.",
        response_format=Finding,
    )
    builder.add_operation("communicate", node_id="last", instruction="Say it in one line.")
    return builder.get_graph()


FIVE: dict[str, Callable[[Session], Graph[Any]]] = {
    "sequence": sequence,
    "fan-out": fan_out,
    "fan-in": fan_in,
    "expansion": expansion,
    "aggregation": aggregation,
}
"""By name."""


def answer(prompt: str, request: dict[str, Any]) -> str:
    """What the scripted provider says: an answer that hangs on every letter of the question.

    Ids of nodes don't count, so that the same graph built twice gets the same answers.
    """
    told = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", json.dumps(request["messages"]))
    mark = hashlib.sha256(told.encode()).hexdigest()[:10]
    last = prompt.rpartition("Instruction: ")[2]
    if "severity" in last:
        fields = {"lines": [int(mark[:2], 16)], "title": mark, "severity": "high"}
        return f"Here it is:\n```json\n{json.dumps(fields)}\n```"
    if '\\"steps\\"' in last:
        return json.dumps({"why": mark, "steps": [mark], "context": {"agreed": mark}})
    return f"said {mark}"
