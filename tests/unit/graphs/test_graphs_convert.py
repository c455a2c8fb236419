"""What becomes of a graph: steps, branches, conversations; and what is refused, with what to do."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any, cast

import pytest
from five_graphs import FIVE, Finding, connected_session
from lionagi import Branch, Builder, Session, iModel
from lionagi.operations.builder import ExpansionStrategy
from lionagi.operations.fields import Instruct
from lionagi.operations.node import Operation, create_operation
from lionagi.protocols.generic.event import EventStatus
from lionagi.protocols.graph.edge import Edge, EdgeCondition
from lionagi.protocols.graph.graph import Graph
from lionagi.protocols.graph.node import Node
from pydantic import BaseModel, Field, field_validator

from qefleet.contracts.flows import FlowInput
from qefleet.errors import GraphError
from qefleet.graphs.convert import MAX_BYTES, to_flow

MODEL = "openai/gpt-4.1-mini"
RUN = "019ab000-0000-7000-8000-000000000000"


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with connected_session("http://127.0.0.1:9") as connected:
        yield connected


def lines(flow: FlowInput) -> list[str]:
    """A flow in short: `id(what it depends on) kind on branch`, and what it inherits."""
    return [
        f"{step.id}({', '.join(step.depends_on)}) {operation.kind} on {'a copy of ' * operation.own}"
        f"{operation.inherit_from or operation.branch}"
        for step in flow.steps or []
        if (operation := step.operation)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "sequence",
            [
                "read() communicate on main",
                "find(read) operate on a copy of main",
                "ask(find) communicate on ada",
                "ask-more(ask) communicate on ada",
                "judge(ask-more) chat on a copy of ask-more",
            ],
        ),
        (
            "fan-out",
            [
                "plan() communicate on main",
                "ada-reviews(plan) communicate on ada",
                "bob-reviews(plan) communicate on bob",
                "operate-4(plan) operate on a copy of plan",
            ],
        ),
        (
            "fan-in",
            [
                "communicate-1() communicate on main",
                "communicate-2() communicate on main",
                "parse-3() parse on main",
                "chat-4() chat on bob",
                "weigh(communicate-1, communicate-2, parse-3, chat-4) communicate on a copy of main",
                "sum-up(communicate-1, communicate-2) operate on a copy of communicate-1",
            ],
        ),
        (
            "expansion",
            [
                "split() communicate on main",
                "communicate-2(split) communicate on a copy of main",
                "communicate-3(split) communicate on a copy of main",
                "communicate-4(split) communicate on a copy of main",
                "operate-5(split) operate on a copy of split",
                "operate-6(split) operate on a copy of split",
            ],
        ),
        (
            "aggregation",
            [
                "communicate-1() communicate on ada",
                "communicate-2(communicate-1) communicate on a copy of main",
                "communicate-3(communicate-1) communicate on a copy of main",
                "communicate-4(communicate-1) communicate on a copy of main",
                "together(communicate-2, communicate-3, communicate-4) operate on a copy of communicate-3",
                "last(together) communicate on a copy of main",
            ],
        ),
    ],
)
def test_the_five_graphs(session: Session, name: str, expected: list[str]) -> None:
    """Each node is a step; edges, branches and inheritance are where the Builder put them."""
    assert lines(to_flow(FIVE[name](session), session=session, model=MODEL)) == expected


def test_a_flow_survives_json(session: Session) -> None:
    """A flow as text and back is the same flow, the order of its objects' keys included."""
    flow = to_flow(FIVE["fan-out"](session), session=session, model=MODEL)

    back = FlowInput.model_validate_json(flow.model_dump_json())

    assert back == flow
    assert back.model_dump_json() == flow.model_dump_json()


def test_the_graph_is_left_as_it_is(session: Session) -> None:
    """Converting twice gives the same, and names its nodes by their ids."""
    graph = FIVE["sequence"](session)

    first, second = (to_flow(graph, session=session, model=MODEL) for _ in range(2))

    assert first == second
    assert [step.operation and step.operation.node for step in first.steps or []] == [
        str(node.id) for node in graph.internal_nodes
    ]


def test_a_beginning_stands_once(session: Session) -> None:
    """Each branch's system message is told by the first step that names the branch."""
    flow = to_flow(FIVE["fan-out"](session), session=session, model=MODEL)

    assert [step.operation and step.operation.system for step in flow.steps or []] == [
        "You review code.",
        "You are ada.",
        "You are bob.",
        None,
    ]


def test_branches_bring_their_models() -> None:
    """Each branch's own model and settings go along; `model` stands in place of the models alone."""
    session = Session(
        default_branch=Branch(chat_model=iModel(provider="openai", model="gpt-4.1", temperature=0.5))
    )
    other = Branch(chat_model=iModel(provider="anthropic", model="claude-haiku-4-5"))
    session.include_branches([other])
    builder = Builder()
    builder.add_operation("communicate", instruction="One.")
    builder.add_operation("communicate", instruction="Two.", branch=other)

    flow = to_flow(builder.get_graph(), session=session)
    other_model = to_flow(builder.get_graph(), session=session, model="local")

    assert (flow.model, other_model.model) == ("openai/gpt-4.1", "local")
    assert [(s.operation.model, s.operation.settings) for s in flow.steps or [] if s.operation] == [
        (None, {"temperature": 0.5}),
        ("anthropic/claude-haiku-4-5", {}),
    ]
    assert [(s.operation.model, s.operation.settings) for s in other_model.steps or [] if s.operation] == [
        (None, {"temperature": 0.5}),
        (None, {}),
    ]


def test_a_result_that_is_there_is_taken_over() -> None:
    """A node that `Session.flow` has run is given with its result; one that the fleet has run, by name."""
    builder = Builder()
    ids = [builder.add_operation("communicate", instruction=text) for text in ("a", "b", "c")]
    here, there, _ = cast("list[Operation]", [builder.get_graph().internal_nodes[node] for node in ids])
    here.execution.status = there.execution.status = EventStatus.COMPLETED
    here.execution.response = Finding(title="t")
    there.metadata.update({"qe_run": RUN, "qe_step": "b-2"})

    flow = to_flow(builder.get_graph())

    assert [(s.operation.kind, s.operation.parameters) for s in flow.steps or [] if s.operation] == [
        ("given", {"result": {"title": "t", "severity": "low", "lines": [], "note": None}}),
        ("given", {"run": RUN, "step": "b-2"}),
        ("communicate", {"instruction": "c"}),
    ]


def test_what_lionagi_drops_is_dropped() -> None:
    """An expansion's bookkeeping and names that no request has stay behind; a provider's fields go along."""
    builder = Builder()
    source = builder.add_operation("communicate", instruction="a", nonsense=object())
    builder.expand_from_result(["x"], source, "communicate", instruction="b", top_p=0.5)

    flow = to_flow(builder.get_graph())

    assert [step.operation and step.operation.parameters for step in flow.steps or []] == [
        {"instruction": "a"},
        {"instruction": "b", "top_p": 0.5},
    ]


class Colour(Enum):
    RED = "red"


class WithEnum(BaseModel):
    colour: Colour


class WithDate(BaseModel):
    day: datetime


class WithValidator(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def _upper(cls, value: str) -> str:
        return value.upper()


class WithAlias(BaseModel):
    text: str = Field(alias="words")


class Recursive(BaseModel):
    children: list[Recursive] = []


class Yes(EdgeCondition):
    async def apply(self, *args: Any, **kwargs: Any) -> bool:
        del args, kwargs
        return True


def one(operation: str = "communicate", **parameters: Any) -> Graph[Any]:
    builder = Builder()
    given: dict[str, Any] = {"instruction": "x", **parameters}
    builder.add_operation(operation, node_id="it", **given)
    return builder.get_graph()


def after(operation: str = "communicate", **parameters: Any) -> Graph[Any]:
    builder = Builder()
    builder.add_operation("communicate", node_id="first", instruction="x")
    builder.add_operation(operation, node_id="it", **parameters)
    return builder.get_graph()


def conditional_edge() -> Graph[Any]:
    first, second = (create_operation("communicate", {"instruction": "x"}) for _ in range(2))
    graph: Graph[Any] = Graph()
    graph.add_node(first)
    graph.add_node(second)
    graph.add_edge(Edge(first, second, condition=Yes()))
    return graph


def conditional_branch() -> Graph[Any]:
    builder = Builder()
    builder.add_operation("communicate", instruction="x")
    builder.add_conditional_branch("communicate", "chat", "operate", instruction="y")
    return builder.get_graph()


def circle() -> Graph[Any]:
    first, second = (create_operation("communicate", {"instruction": "x"}) for _ in range(2))
    graph: Graph[Any] = Graph()
    graph.add_node(first)
    graph.add_node(second)
    graph.add_edge(Edge(first, second))
    graph.add_edge(Edge(second, first))
    return graph


def plain_node() -> Graph[Any]:
    graph: Graph[Any] = Graph()
    graph.add_node(Node())
    return graph


def failed_before() -> Graph[Any]:
    graph = one()
    next(iter(graph.internal_nodes)).execution.status = EventStatus.FAILED
    return graph


def chained_context() -> Graph[Any]:
    builder = Builder()
    source = builder.add_operation("communicate", instruction="x")
    builder.expand_from_result(
        ["a", "b"],
        source,
        "communicate",
        strategy=ExpansionStrategy.SEQUENTIAL,
        inherit_context=True,
        chain_context=True,
        instruction="y",
    )
    return builder.get_graph()


REFUSED: list[tuple[Callable[[], Graph[Any]], str]] = [
    (lambda: one("ReAct"), "it: operation ReAct decides on its own .* write its turns as nodes"),
    (lambda: one("act"), "it: operation act runs Python tools"),
    (lambda: one("interpret"), "use that"),
    (lambda: one("my_own"), "it: operation my_own is registered in this process only"),
    (lambda: one(context=print), "it: parameter context is .*function.*, which isn't JSON: .*Python code"),
    (lambda: one(context={"deep": [{"er": object()}]}), "parameter context.deep.0.er is object"),
    (lambda: one(context={1: "x"}), "parameter context is dict, .* string keys"),
    (lambda: one(context=[float("nan")]), "parameter context.0 is float"),
    (lambda: one(context=Finding(title="t")), r"pass its model_dump\(mode='json'\)"),
    (lambda: one(guidance=datetime.now(UTC)), "parameter guidance is datetime"),
    (lambda: one(chat_model=iModel(provider="openai", model="x")), "parameter chat_model is a live object"),
    (lambda: one("operate", actions=True), "parameter actions runs Python"),
    (lambda: one("operate", tools=[print]), "parameter tools runs Python"),
    (lambda: one("operate", instruct=Instruct.model_validate({"actions": True})), "instruct.actions runs"),
    (lambda: one("operate", middle=print), "parameter middle is a Python function"),
    (lambda: one("operate", stream_persist=True), "writes to the machine"),
    (lambda: one("operate", persist_dir="/tmp/x"), "writes to the machine"),
    (lambda: one("chat", return_ins_res_message=True), "gives live messages back"),
    (lambda: one(progression=[]), "picks messages of a live branch"),
    (lambda: one(n=3), "add a node for each"),
    (lambda: one(response_format=WithEnum), "WithEnum can't be carried: .* Literal"),
    (lambda: one(response_format=WithDate), "WithDate can't be rebuilt"),
    (lambda: one(response_format=WithValidator), "WithValidator can't be carried: it has validators"),
    (lambda: one(response_format=WithAlias), "its field text has an alias"),
    (lambda: one(response_format=Recursive), "Recursive can't be carried"),
    (lambda: one(response_format=Finding(title="t")), r"model_dump\(mode='json'\)"),
    (lambda: one(instruction="x" * (MAX_BYTES + 1)), "graph: has .* bytes"),
    (lambda: one(is_gate=True), "it: is a gate"),
    (lambda: one(branch="0" * 8 + "-0000-4000-8000-" + "0" * 12), "pass session="),
    (lambda: after("parse", text="{}"), "it: parse takes no context"),
    (lambda: one("parse", text="{}"), "it: parameter instruction is none that parse takes"),
    (conditional_edge, "communicate-2: the edge from communicate-1 has a condition, .* `when`"),
    (conditional_branch, "lionagi runs both sides"),
    (chained_context, "communicate-3: inherits the conversation of a node that it doesn't depend on"),
    (circle, "graph: goes in circles"),
    (Graph, "graph: is empty"),
    (plain_node, "is a Node: only operations"),
    (failed_before, "it: has been run and is failed"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_refused(build: Callable[[], Graph[Any]], message: str) -> None:
    """What has no durable meaning names its node, what it is, and what to do in its place."""
    with pytest.raises(GraphError, match=message):
        to_flow(build())


def test_a_branch_that_is_not_in_the_session(session: Session) -> None:
    """`Session.flow` would silently run on another branch; here it is an error."""
    graph = one(branch=Branch(system="a stranger"))

    with pytest.raises(GraphError, match=r"it: its branch isn't in the session: session.include_branches"):
        to_flow(graph, session=session, model=MODEL)


def test_a_model_at_an_address_of_its_own(session: Session) -> None:
    """The gateway would send these calls elsewhere, with another key: the user is to say which model."""
    with pytest.raises(
        GraphError, match=r"branch main: reaches its model at an address of its own: .* model="
    ):
        to_flow(one(), session=session)
