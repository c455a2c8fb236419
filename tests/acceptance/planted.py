"""A small project whose untested functions, and the right tests for them, are known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FUNCTIONS = 12

_FUNCTION = '''

def scale_{n}(value):
    """Scale what is above {n}, shift what isn't."""
    if value > {n}:
        return value * {factor}
    return value - {n}
'''

_TEST = """from planted.shapes import scale_{n}


def test_scale_{n}_above_and_below():
    assert scale_{n}({above}) == {product}
    assert scale_{n}(0) == -{n}
"""


def make_project(folder: Path, *, functions: int = FUNCTIONS, red: bool = False) -> Path:
    """Write the project: `functions` untested functions, and a suite that tests another one."""
    package, tests = folder / "planted", folder / "tests"
    package.mkdir(parents=True)
    tests.mkdir()
    source = "def known(value):\n    return value + 1\n"
    source += "".join(_FUNCTION.format(n=n, factor=n + 2) for n in range(1, functions + 1))
    (package / "__init__.py").write_text("")
    (package / "shapes.py").write_text(source)
    (tests / "test_shapes.py").write_text(
        f"from planted.shapes import known\n\n\ndef test_known():\n    assert known(1) == {3 if red else 2}\n"
    )
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n\n'
        '[project]\nname = "planted"\nversion = "1.0"\n\n[tool.setuptools]\npackages = ["planted"]\n'
    )
    return folder


def right_test(n: int) -> str:
    """A test of `scale_n` that reaches both branches and notices every fault in them."""
    return _TEST.format(n=n, above=n + 1, product=(n + 1) * (n + 2))


def refuse(prompt: str, request: dict[str, Any]) -> str:
    """What a useless model says: an answer that holds no test."""
    del prompt, request
    return json.dumps({"tests": "# I would rather not", "summary": "", "first": []})


def _plan(told: bool) -> dict[str, Any]:
    """A plan with an agent that a commander can't have, and once that was said, one that can be followed."""
    tests = {"id": "tests", "agent": "test-executor" if told else "quality-gate", "goal": "Run them."}
    cover = {"id": "cover", "agent": "coverage-analyzer", "goal": "Measure.", "depends_on": ["tests"]}
    return {"tasks": [tests, cover]}


def answer(prompt: str, request: dict[str, Any]) -> str:
    """What the scripted provider says: the right test for the function that is asked for, or a plan."""
    del request

    if asked := re.search(r"Write three tests for `scale_(\d+)`", prompt):
        return json.dumps({"tests": right_test(int(asked[1]))})
    if "Plan the fewest tasks" in prompt:
        return json.dumps(_plan("can't be accepted" in prompt))
    if asked := re.search(r'"id": "([^"]+)"\s*(?:,|})', prompt):
        return json.dumps({"text": asked[1]})
    if "Choose the one comment" in prompt:
        return json.dumps({"comment": "# TODO: shapes with holes", "why": "Users have holes."})
    _, _, text = prompt.partition("fits this JSON Schema, and nothing else:\n")
    schema: dict[str, Any] = json.loads(text.splitlines()[0])
    return json.dumps(_least(schema, schema.get("$defs", {})))


def _least(schema: dict[str, Any], shared: dict[str, Any]) -> Any:
    """The least that fits a schema: empty lists, and short texts that name nothing."""
    if "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    if choices := [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        return _least(choices[-1], shared)
    if values := schema.get("enum"):
        return values[0]
    match schema.get("type"):
        case "object":
            return {name: _least(part, shared) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_least(schema.get("items", {}), shared)] * schema.get("minItems", 0)
        case "string":
            return "small shapes"
        case kind:
            return {"boolean": False, "integer": 0, "number": 0}.get(str(kind))
