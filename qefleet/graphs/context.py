"""How results get into a node's context: as `Session.flow` puts them there, to the letter of the prompt."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

from lionagi.libs.nested import deep_update
from lionagi.utils import to_dict


def shown_context(
    parameters: Mapping[str, Any],
    *,
    results: Mapping[str, Any] | None,
    shared: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A node's parameters with the context that the flow adds.

    Args:
        parameters: The node's own.
        results: By node, of those before it; None for a node that has none before it, which is not the same
            as one whose predecessors were all skipped.
        shared: What is shown to all nodes: the flow's own context, then what earlier results add to it.
    """
    shown = copy.deepcopy(dict(parameters))
    if results is not None:
        _add(shown, {f"{node}_result": _as_object(result) for node, result in results.items()})
    everywhere: dict[str, Any] = {}
    for part in shared:
        deep_update(everywhere, copy.deepcopy(dict(part)))
    if everywhere:
        _add(shown, everywhere)
    return shown


def _add(parameters: dict[str, Any], more: dict[str, Any]) -> None:
    if "context" not in parameters:
        parameters["context"] = more
    elif isinstance(parameters["context"], dict):
        cast("dict[str, Any]", parameters["context"]).update(more)
    else:
        parameters["context"] = {"original_context": parameters["context"], **more}


def _as_object(result: Any) -> Any:
    if result is None or isinstance(result, str | int | float | bool):
        return result
    return to_dict(result, recursive=True)  # a list becomes an object with its places as keys
