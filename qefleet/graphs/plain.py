"""Values that a workflow can carry: JSON, as it is, or a reason why not."""

from __future__ import annotations

import math
from typing import Any, cast

from lionagi.utils import to_dict
from pydantic import BaseModel

from qefleet.errors import GraphError


def plain(value: Any, what: str, *, node: str) -> Any:
    """A copy of a value that is JSON already.

    Args:
        value: Anything; tuples become lists, as they do in lionagi's prompts.
        what: Its name, for the message.
        node: Whose it is.

    Raises:
        GraphError: It isn't; the message says where.
    """
    match value:
        case None | bool() | int() | str():
            return value if type(value) in (type(None), bool, int, str) else _refuse(value, what, node)
        case float():
            return value if math.isfinite(value) else _refuse(value, what, node)
        case list() | tuple():
            parts = cast("list[Any]", value)
            return [plain(part, f"{what}.{number}", node=node) for number, part in enumerate(parts)]
        case dict():
            items = cast("dict[Any, Any]", value)
            if not all(isinstance(key, str) for key in items):
                _refuse(items, what, node)
            return {key: plain(part, f"{what}.{key}", node=node) for key, part in items.items()}
        case _:
            return _refuse(value, what, node)


def plain_result(value: Any, *, node: str) -> Any:
    """A node's result as JSON; a model becomes its fields, as in lionagi's own contexts."""
    told = to_dict(value, recursive=True) if isinstance(value, BaseModel) else value
    # What couldn't be parsed comes as a str that carries the reason.
    return plain(str(told) if isinstance(told, str) else told, "its result", node=node)


def _refuse(value: Any, what: str, node: str) -> Any:
    if callable(value):
        advice = "a workflow can't carry Python code; what it computes can stand there as JSON"
    elif isinstance(value, BaseModel):
        advice = "pass its model_dump(mode='json')"
    else:
        advice = "use strings, finite numbers, booleans, null, lists and dicts with string keys"
    raise GraphError(node, f"{what} is {type(value).__name__}, which isn't JSON: {advice}")
