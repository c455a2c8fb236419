"""The statements of `queries.sql`, by name.

Each stands there under a line `-- name: …` and at least one line that describes it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)$", re.MULTILINE)


@cache
def load_queries() -> MappingProxyType[str, str]:
    """All statements, without their descriptions.

    Raises:
        ValueError: A name is given twice, or a statement isn't described.
    """
    return MappingProxyType(parse_queries(files("qefleet.sql").joinpath("queries.sql").read_text("utf-8")))


def parse_queries(text: str) -> dict[str, str]:
    """Split a file of named statements; see `load_queries`."""
    heads = list(_NAME.finditer(text))
    queries: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        lines = text[head.end() : following.start() if following else len(text)].strip().splitlines()
        statement = "\n".join(line for line in lines if not line.startswith("--")).strip()
        if len(lines) == 0 or not lines[0].startswith("--") or not statement:
            raise ValueError(f"query {head['name']} needs a description and a statement")
        if head["name"] in queries:
            raise ValueError(f"query {head['name']} is there twice")
        queries[head["name"]] = statement.removesuffix(";")
    return queries
