"""Pynguin in the real sandbox, on a small module whose right answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_project import write_project

from qefleet.agents.strategies import draft_tests
from qefleet.contracts.generation import Segment
from qefleet.contracts.learning import Strategy
from qefleet.testing.ground import LocalGround
from qefleet.tools.generation.candidates import begin_generation, judge_proposal
from qefleet.tools.generation.pynguin import PYNGUIN, search_tests
from qefleet.tools.running.suite import run_suite
from qefleet.tools.source_tree import parse_source
from qefleet.workspace.sandbox import Sandbox

pytestmark = pytest.mark.skipif(
    PYNGUIN.version() is None, reason=f"no Pynguin here: {PYNGUIN.how_to_install}"
)

_SOURCE = '''import os

PASSWORD = "hunter2-correct"


def grade(points: int) -> str:
    if points < 0:
        raise ValueError("negative")
    if points > 20:
        return "A"
    return "C"


def opens(password: str) -> bool:
    """Whether it opens."""
    if password == PASSWORD:
        return True
    return False


class Box:
    def __init__(self, size: int) -> None:
        self.size = size

    def twice(self) -> int:
        if self.size > 10:
            return self.size * 2
        return 0


def leaves(text: str) -> None:
    os._exit(3)


def endless(text: str) -> None:
    while True:
        pass
'''


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    files = {
        "pyproject.toml": '[project]\nname = "planted"\nversion = "1"\n',
        "planted/__init__.py": "",
        "planted/code.py": _SOURCE,
        "tests/test_x.py": "import planted.code\n\n\ndef test_x():\n    assert planted.code.PASSWORD\n",
    }
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
        class_header="class Box:" if "." in qualname else "",
    )


@pytest.mark.parametrize("name", ["grade", "Box.twice"])
async def test_what_pynguin_finds_is_kept_by_the_filters(ground: LocalGround, name: str) -> None:
    """Each line that returns something is reached by tests that pass and kill mutants."""
    segment = _segment(name)
    proposal, note = await draft_tests(ground, segment, Strategy.PYNGUIN)
    state = await begin_generation(ground, await run_suite(ground, coverage=True))
    assert proposal
    judged = await judge_proposal(ground, segment, proposal, state)

    reached = {line for test in judged.state.kept for gain in test.gains for line in gain.lines}
    returning = {n for n in segment.missing_lines if "return" in _SOURCE.split("\n")[n - 1]}
    assert (note, returning - reached) == ("", set())
    assert all(test.mutants_killed for test in judged.state.kept)


async def test_tests_are_about_the_function_alone(ground: LocalGround) -> None:
    """What Pynguin does besides, with other parts of the module, is left out."""
    found, _ = await search_tests(ground, _segment("grade"))

    assert found
    assert all("code_.grade(" in text and "Box" not in text and "PASSWORD" not in text for text in found)


async def test_the_same_search_finds_the_same_tests(ground: LocalGround) -> None:
    """Its seed and its number of iterations are fixed."""
    first = await search_tests(ground, _segment("grade"))

    assert first[0]
    assert await search_tests(ground, _segment("grade")) == first


async def test_a_secret_of_the_code_is_not_taken_over(ground: LocalGround) -> None:
    """The branch that only a password reaches stays open."""
    found, note = await search_tests(ground, _segment("opens"))

    assert (len(found), note) == (1, "")
    assert "hunter2" not in found[0]


async def test_code_that_ends_the_process_gives_a_note(ground: LocalGround) -> None:
    """And no proposal."""
    found, note = await search_tests(ground, _segment("leaves"))

    assert (found, note.partition(":")[0]) == ([], "Pynguin ended with exit code 3")


async def test_a_search_that_does_not_end_gives_a_note(ground: LocalGround) -> None:
    """It is stopped by the sandbox."""
    found, note = await search_tests(ground, _segment("endless"), timeout_s=5.0)

    assert (found, note) == ([], "Pynguin was stopped at its limit of time")
