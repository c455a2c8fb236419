"""Calls that are found by search, in the real sandbox, on functions whose right answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_project import write_project

from qefleet.contracts.generation import Segment
from qefleet.testing.ground import LocalGround
from qefleet.tools.generation.search import search_calls
from qefleet.tools.source_tree import parse_source
from qefleet.workspace.sandbox import Sandbox

_SOURCE = """import os, time


class Refused(Exception):
    pass


def grade(points: int) -> str:
    if points < 0:
        raise ValueError("negative")
    if points > 2:
        return "A"
    return "C"


class Box:
    def __init__(self, size: int):
        self.size = size

    def twice(self) -> int:
        if self.size > 1:
            return self.size * 2
        raise Refused


def stamp(text: str) -> str:
    return text + str(time.time_ns())


def endless(text: str):
    while True:
        pass


def leaves(text: str):
    os._exit(0)


def unpack(pairs):
    for name, value in pairs:
        yield name.upper(), value
"""


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    files = {"planted/__init__.py": "", "planted/code.py": _SOURCE, "tests/test_x.py": "def test_x(): pass\n"}
    return LocalGround(write_project(tmp_path, files), environment, sandbox)


def _segment(qualname: str) -> Segment:
    tree = parse_source(_SOURCE)
    assert tree is not None
    found = next(item for item in tree.definitions if item.qualname == qualname)
    return Segment(
        id=f"planted.code:{qualname}",
        file="planted/code.py",
        module="planted.code",
        qualname=qualname,
        start_line=found.start,
        end_line=found.end,
        source=tree.slice(found.start, found.end),
        missing_lines=list(range(found.start + 1, found.end + 1)),
        missing_branches=[],
        import_line="from planted.code import x",
    )


async def test_each_branch_is_reached_and_what_it_gives_is_expected(ground: LocalGround) -> None:
    """Three outcomes of three branches; searching again finds the same."""
    returns, raises = await search_calls(ground, _segment("grade"))

    assert "== 'A'" in returns
    assert "== 'C'" in returns
    assert "with pytest.raises(ValueError):\n        grade(-" in raises
    assert await search_calls(ground, _segment("grade")) == [returns, raises]


async def test_an_object_is_made_for_a_method(ground: LocalGround) -> None:
    """With arguments that its class takes; an exception of the project's own is imported."""
    returns, raises = await search_calls(ground, _segment("Box.twice"))

    assert ".twice() == " in returns
    assert "from planted.code import Refused" in raises


async def test_what_a_generator_gives_is_listed(ground: LocalGround) -> None:
    """It has no value by itself."""
    (returns,) = await search_calls(ground, _segment("unpack"))

    assert "assert list(unpack([('a', 1), ('b', 2)])) == [('A', 1), ('B', 2)]" in returns


@pytest.mark.parametrize("name", ["stamp", "endless", "leaves"])
async def test_nothing_is_proposed_for_what_is_never_the_same(ground: LocalGround, name: str) -> None:
    """Time in the result, no end, and the end of the process."""
    assert await search_calls(ground, _segment(name)) == []
