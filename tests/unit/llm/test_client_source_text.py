"""Undoing line breaks that a model spelt with one backslash too few."""

from __future__ import annotations

import ast
import json

import pytest

from qefleet.agents.prompt import load_prompt
from qefleet.llm.source_text import python_source

GOOD = 'def test_a():\n    text = "one\\ntwo\\n\\nthree"\n    assert f(text) == ["one", \'t\\nw\']\n'


def test_broken_literals_are_joined() -> None:
    """What a model meant comes back, character for character."""
    spoilt = GOOD.replace("\\n", "\n")

    assert python_source(spoilt) == GOOD
    assert ast.parse(python_source(spoilt))


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "",
        "def test_a(:\n",
        'x = """one\ntwo"""\n',
        'x = "never ended\n',
        "x = 'it's broken\nin a way that joining doesn't mend",
        "x = '\\d'",
        "\0",
        "(" * 10_000,
    ],
    ids=["good", "empty", "other fault", "triple", "no end", "unmended", "escape", "nul", "deep"],
)
def test_all_else_stays_as_it_is(text: str) -> None:
    """Nothing is guessed at."""
    assert python_source(text) == text


def test_the_prompt_s_example_is_an_answer() -> None:
    """The example that the test-generator's prompt shows is JSON, and its tests are Python."""
    example = json.loads(load_prompt("test-generator").system.rpartition("answer:\n")[2])

    tests = [node.name for node in ast.parse(example["tests"]).body if isinstance(node, ast.FunctionDef)]
    assert len(tests) == 3
