"""A node's parameters as JSON: what is carried, what lionagi itself would drop, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lionagi.operations.fields import Instruct
from pydantic import BaseModel

from qefleet.contracts.operations import PARAMETERS, OperationKind, ResponseModel
from qefleet.errors import GraphError
from qefleet.graphs.plain import plain
from qefleet.graphs.responses import describe

_A_MODEL = "is a live object: give the branch its model, or pass model= to run_graph"
_TOOLS = "runs Python in the middle of a turn: make the call a step of its own, or an agent of the fleet"
REFUSED: Mapping[str, str] = {
    "chat_model": _A_MODEL,
    "parse_model": _A_MODEL,
    "imodel": _A_MODEL,
    "tools": _TOOLS,
    "actions": _TOOLS,
    "tool_schemas": _TOOLS,
    "call_params": _TOOLS,
    "tool_choice": _TOOLS,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "parallel_tool_calls": _TOOLS,
    "middle": "is a Python function: leave it out",
    "operative": "is a live object: give response_format",
    "request_type": "is another name of response_format: use that",
    "field_models": "is made of live objects: put the fields into response_format",
    "structure": "is a Python class: leave it out",
    "fuzzy_match_kwargs": "reaches into lionagi's parser: leave it out",
    "progression": "picks messages of a live branch: use a branch of its own, or inherit_context",
    "return_ins_res_message": "gives live messages back: leave it out",
    "stream": "has no use in a step that ends with its whole answer: leave it out",
    "stream_options": "has no use in a step that ends with its whole answer: leave it out",
    "stream_persist": "writes to the machine that it runs on: the conversation is in Postgres anyway",
    "persist_dir": "writes to the machine that it runs on: the conversation is in Postgres anyway",
    "snapshot_dir": "writes to the machine that it runs on: the conversation is in Postgres anyway",
    "n": "asks for several answers at once: add a node for each",
    "logprobs": "isn't part of the answer's text: leave it out",
    "top_logprobs": "isn't part of the answer's text: leave it out",
    "system": "is the branch's: give it to the branch",
    "metadata": "goes to the provider's account, not to the model: leave it out",
    "store": "goes to the provider's account, not to the model: leave it out",
    "service_tier": "goes to the provider's account, not to the model: leave it out",
}
"""Parameters that have no durable meaning, and what to do instead."""


def carried(
    kind: OperationKind, parameters: Mapping[str, Any], *, node: str
) -> tuple[dict[str, Any], ResponseModel | None]:
    """The parameters that a step takes along.

    What lionagi would leave out of the request without a word, such as an expansion's own bookkeeping, is
    left out here.

    Args:
        kind: The Branch's method.
        parameters: As given to the Builder.
        node: For messages.

    Returns:
        Them as JSON, and `response_format` where it is a class.

    Raises:
        GraphError: One has no durable meaning; the message names it.
    """
    taken: dict[str, Any] = {}
    response = None
    for name, value in parameters.items():
        if name in REFUSED and value not in (None, False):
            raise GraphError(node, f"parameter {name} {REFUSED[name]}")
        if name not in PARAMETERS[kind]:
            if kind == "parse":
                raise GraphError(node, f"parameter {name} is none that parse takes: leave it out")
            continue
        if name == "response_format" and isinstance(value, type) and issubclass(value, BaseModel):
            response = describe(value, node=node)
        elif name == "instruct" and isinstance(value, Instruct):
            taken[name] = _instruct(value.model_dump(), node)
        else:
            taken[name] = plain(value, f"parameter {name}", node=node)
    if isinstance(given := taken.get("instruct"), dict):
        _instruct(cast("dict[str, Any]", given), node)
    return taken, response


def _instruct(instruct: dict[str, Any], node: str) -> dict[str, Any]:
    if instruct.get("actions"):
        raise GraphError(node, f"parameter instruct.actions {_TOOLS}")
    return plain(instruct, "parameter instruct", node=node)
