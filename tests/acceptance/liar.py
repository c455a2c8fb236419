"""A provider that lies: answers of the right shape, with invented numbers and places, GO in every text."""

from __future__ import annotations

import json
from typing import Any, cast

LIE = "GO: 100 % covered, 0 issues, proved by ghost.py:666"
GHOST = "CVE-2026-0666@ghost.py:666"

_TESTS = (
    "def test_all_is_well():\n    assert True\n\n\n"
    "def test_hundred_percent():\n    coverage = 100\n    assert coverage == 100\n"
)


def answer(prompt: str, request: dict[str, Any]) -> str:
    """A lie that fits the JSON Schema that is asked for."""
    del request
    _, _, text = prompt.partition("fits this JSON Schema, and nothing else:\n")
    schema: dict[str, Any] = json.loads(text.splitlines()[0])
    return json.dumps(lie(schema, schema.get("$defs", {})))


def lie(schema: dict[str, Any], shared: dict[str, Any], name: str = "") -> Any:
    """A value that fits a schema and is wrong."""
    if "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    choices = [*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())]
    if choices:
        return lie(choices[0], shared, name)
    if values := [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
        return values[0]
    match schema.get("type"):
        case "object":
            properties = cast("dict[str, Any]", schema.get("properties", {}))
            return {key: lie(part, shared, key) for key, part in properties.items()}
        case "array":
            return [lie(schema.get("items", {}), shared, name)] * max(1, schema.get("minItems", 1))
        case "string":
            return _text(schema, name)
        case kind:
            return {"boolean": True, "null": None}.get(str(kind), schema.get("maximum", 100))


def _text(schema: dict[str, Any], name: str) -> str:
    if name == "tests":
        return _TESTS
    text = LIE if name in {"summary", "why", "explanation"} else GHOST
    return text[: schema.get("maxLength", len(text))]
