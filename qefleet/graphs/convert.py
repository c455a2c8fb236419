"""A lionagi graph as a Flow: pure conversion, nothing is run and nobody is asked."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast
from uuid import UUID

from lionagi import Session
from lionagi.operations.node import Operation as Node
from lionagi.protocols.generic.event import EventStatus
from lionagi.protocols.graph.graph import Graph
from pydantic import ValidationError

from qefleet.contracts.flows import FlowInput, FlowStep
from qefleet.contracts.operations import Operation, OperationKind
from qefleet.errors import GraphError
from qefleet.graphs.branches import Branches
from qefleet.graphs.parameters import carried
from qefleet.graphs.plain import plain, plain_result

RUN_KEY, STEP_KEY = "qe_run", "qe_step"
"""Under these a node's metadata tells which run has done it, see `run_graph`."""
MAX_BYTES = 500_000
"""Of the whole flow as JSON: its plan goes through the workflow's history, which takes 2 MB at once."""

_KINDS: Mapping[str, OperationKind] = {
    "communicate": "communicate",
    "operate": "operate",
    "chat": "chat",
    "parse": "parse",
}
_OTHERS = {
    "ReAct": "decides on its own how many turns it takes: write its turns as nodes",
    "ReActStream": "decides on its own how many turns it takes: write its turns as nodes",
    "act": "runs Python tools: make that a step of an agent of the fleet",
    "run": "streams from a program: use communicate or operate",
    "chat_and_record": "is communicate without a format: use that",
    "interpret": "is communicate with words of lionagi's own: use that",
}
OnFailure = Literal["stop", "continue"]
_SIDES = frozenset({"if_true", "if_false"})


def to_flow(
    graph: Graph[Any],
    *,
    session: Session | None = None,
    model: str | None = None,
    context: Mapping[str, Any] | None = None,
    max_concurrent: int = 5,
    budget_usd: float | None = None,
    on_failure: OnFailure = "stop",
) -> FlowInput:
    """Turn a graph into what the workflow `Flow` takes.

    Args:
        graph: As `Builder.get_graph()` gives it; it isn't changed.
        session: Holds the branches, with their system messages, what was said on them, and their models.
        model: For all nodes, `provider/name` or `local`; without it each branch's own, or the fleet's where
            there is no session.
        context: As `Session.flow` takes it: shown to every node.
        max_concurrent: Nodes in work at once, as in `Session.flow`.
        budget_usd: The gateway refuses model calls once the run has spent this.
        on_failure: Whether a node that fails for good ends the run, or its dependents see `{"error": …}`, as
            in `Session.flow`.

    Raises:
        GraphError: Something in it has no durable meaning; the message names the node, and what to do.
    """
    nodes = _nodes(graph)
    names = _names(nodes)
    branches = Branches(session, model=model)
    default = branches.default()
    shown = plain(dict(context or {}), "context", node="graph")
    begun: set[str] = set()
    steps: list[FlowStep] = []
    for node in nodes:
        name = names[node.id]
        before = _before(graph, node, names)
        own = node.branch_id is None and bool(before)
        beginning = branches.of(node.branch_id, node=name) if node.branch_id else default
        fields = _work(node, name) | {
            "node": str(node.id),
            "context": shown,
            "branch": beginning.name,
            "own": own,
            "inherit_from": _inherited(node, name, names, before) if own else None,
            "model": None if beginning.model == default.model else beginning.model,
            "settings": beginning.settings,
        }
        if beginning.name not in begun:
            begun.add(beginning.name)
            fields |= {"system": beginning.system, "opening": beginning.opening}
        if fields["kind"] == "parse" and (before or shown):
            raise GraphError(
                name,
                "parse takes no context, so that lionagi fails it after another node: use operate",
            )
        steps.append(_step(name, before, fields, on_failure))
    try:
        flow = FlowInput(
            steps=steps, model=default.model, max_concurrent=max_concurrent, budget_usd=budget_usd
        )
    except ValidationError as error:
        raise _refused("graph", error) from error
    if (size := len(flow.model_dump_json())) > MAX_BYTES:
        raise GraphError(
            "graph", f"has {size:,} bytes, {MAX_BYTES:,} are the limit: keep long texts elsewhere"
        )
    return flow


def _nodes(graph: Graph[Any]) -> list[Node]:
    nodes: list[Node] = []
    for node in cast("Iterable[Any]", graph.internal_nodes):
        if not isinstance(node, Node):
            raise GraphError(str(node.id)[:8], f"is a {type(node).__name__}: only operations can be run")
        nodes.append(node)
    if not nodes:
        raise GraphError("graph", "is empty: add an operation")
    if not graph.is_acyclic():
        raise GraphError("graph", "goes in circles: a node would wait for itself")
    return nodes


def _names(nodes: Sequence[Node]) -> dict[UUID, str]:
    """Ids for the steps: the node's own `node_id` where it has one, else its kind and place."""
    names: dict[UUID, str] = {}
    for place, node in enumerate(nodes, start=1):
        given = str(node.metadata.get("reference_id") or f"{node.operation}-{place}").lower()
        slug = re.sub(r"[^a-z0-9_-]+", "-", given).strip("-")[:56]
        slug = slug if slug[:1].isalpha() else f"n-{slug}".rstrip("-")
        taken = names.values()
        names[node.id] = slug if slug not in taken else f"{slug}-{place}"
    return names


def _before(graph: Graph[Any], node: Node, names: Mapping[UUID, str]) -> list[str]:
    """The steps that a node waits for, in the order in which lionagi shows their results."""
    name = names[node.id]
    before: list[str] = []
    for edge in graph.find_node_edge(node, direction="in"):
        if edge.condition is not None:
            raise GraphError(
                name,
                f"the edge from {names[edge.head]} has a condition, which is Python: "
                "write a Flow whose step has `when`",
            )
        if _SIDES & set(edge.label or ()):
            raise GraphError(
                name,
                "is a side of add_conditional_branch, and lionagi runs both sides: "
                "write a Flow whose steps have `when`",
            )
        before.append(names[edge.head])
    return list(dict.fromkeys(before))


def _work(node: Node, name: str) -> dict[str, Any]:
    """What the step does: call a method, or take over a result that is there."""
    status = node.execution.status
    if status == EventStatus.COMPLETED:
        if RUN_KEY in node.metadata:
            where = {"run": str(node.metadata[RUN_KEY]), "step": str(node.metadata[STEP_KEY])}
            return {"kind": "given", "parameters": where}
        return {"kind": "given", "parameters": {"result": plain_result(node.response, node=name)}}
    if status != EventStatus.PENDING:
        raise GraphError(name, f"has been run and is {status.value}: build the graph anew")
    if node.operation not in _KINDS:
        advice = _OTHERS.get(node.operation, "is registered in this process only: write it as these four")
        raise GraphError(name, f"operation {node.operation} {advice}; {', '.join(_KINDS)} can be run")
    if node.metadata.get("is_gate"):
        raise GraphError(name, "is a gate (is_gate=True): write a Flow, with `approval` or a quality gate")
    kind = _KINDS[node.operation]
    parameters, response = carried(kind, node.request, node=name)
    return {"kind": kind, "parameters": parameters, "response": response}


def _inherited(node: Node, name: str, names: Mapping[UUID, str], before: Sequence[str]) -> str | None:
    if not node.metadata.get("inherit_context"):
        return None
    source = names.get(cast("UUID", node.metadata.get("primary_dependency")))
    if source not in before:
        raise GraphError(
            name,
            "inherits the conversation of a node that it doesn't depend on, so that it would hang on who is "
            "quicker: add it to depends_on (chain_context makes no edge: add the nodes one by one)",
        )
    return source


def _step(name: str, before: Sequence[str], fields: Mapping[str, Any], on_failure: OnFailure) -> FlowStep:
    try:
        return FlowStep(
            id=name, depends_on=list(before), on_failure=on_failure, operation=Operation(**fields)
        )
    except ValidationError as error:
        raise _refused(name, error) from error


def _refused(name: str, error: ValidationError) -> GraphError:
    """Without the values, which may hold secrets."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return GraphError(name, f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": "))
