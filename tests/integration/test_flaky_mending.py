"""Proposed mends of planted flaky tests: kept only where they check as much and pass as often as it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from agent_context import KeptInMemory, step_context
from planted_project import write_project

from qefleet.agents.flaky_mending import TestMend
from qefleet.agents.flaky_test_hunter import FLAKY_TEST_HUNTER
from qefleet.contracts.base import Digest
from qefleet.contracts.flaky import FlakyTest, Kind
from qefleet.contracts.steps import Finding, Verdict
from qefleet.testing.ground import LocalGround
from qefleet.tools.flakiness.mending import Tried, replace_function, try_mend
from qefleet.workspace.sandbox import Sandbox

_TESTS = """from state import SEEN, double


def test_a_pollutes():
    SEEN.append(1)
    assert SEEN


def test_victim():
    assert double(2) == 4
    assert not SEEN
"""
_FILES = {
    "state.py": "SEEN = []\n\n\ndef double(x):\n    return 2 * x\n",
    "tests/test_state.py": _TESTS,
}
_VICTIM = "tests/test_state.py::test_victim"
_MENDED = "def test_victim():\n    SEEN.clear()\n    assert double(2) == 4\n    assert not SEEN\n"


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


async def _tried(ground: LocalGround, proposal: str) -> Tried:
    victim = FlakyTest(
        node_id=_VICTIM,
        kind=Kind.ORDER,
        path="tests/test_state.py",
        passed=5,
        failed=5,
        rate_low=0.2,
        rate_high=0.8,
        partners=["tests/test_state.py::test_a_pollutes"],
    )
    return await try_mend(
        ground,
        victim,
        proposal,
        files={},
        at_least=4,
        may_fail=[],
        at_once=2,
        timeout_s=60,
    )


async def test_a_mend_that_holds_is_kept(ground: LocalGround) -> None:
    tried = await _tried(ground, _MENDED)
    assert (tried.kept, tried.runs) == (True, 4)
    assert tried.text == _TESTS.replace("def test_victim():\n", "def test_victim():\n    SEEN.clear()\n")


async def test_a_mend_that_changes_nothing_fails_again(ground: LocalGround) -> None:
    tried = await _tried(ground, "def test_victim():\n    assert double(2) == 4\n    assert not SEEN, 'so'\n")
    assert not tried.kept
    assert "after tests/test_state.py::test_a_pollutes" in tried.reason


async def test_a_mend_that_no_longer_tests_the_code_is_refused(ground: LocalGround) -> None:
    """As many assertions, none of them trivial, all passing: and `double` is not called any more."""
    tried = await _tried(
        ground, "def test_victim():\n    SEEN.clear()\n    assert not SEEN\n    assert SEEN == []\n"
    )
    assert (tried.kept, tried.reason) == (False, "it no longer runs state.py:5, which the test ran")


@pytest.mark.parametrize(
    ("proposal", "why"),
    [
        ("def test_victim():\n    SEEN.clear()\n    assert double(2) == 4\n", "it asserts 1 things"),
        ("import pytest\n\n\n@pytest.mark.skip\n" + _MENDED, "give one function"),
        ("@flaky\n" + _MENDED, "its decorators must stay"),
        (_MENDED.replace("SEEN.clear()", "pytest.skip()"), "it uses skip"),
        (_MENDED.replace("double(2) == 4", "True"), "always true"),
        (_MENDED.replace("test_victim", "test_other"), "it must be the function test_victim"),
        ("def test_victim(:\n", "it isn't Python"),
        (_MENDED.replace("SEEN.clear()", "import subprocess as s; s.run('id')"), "it uses subprocess"),
        (_MENDED.replace("SEEN.clear()", "fetch('http://x')"), "it uses urllib"),
    ],
)
def test_a_mend_that_checks_less_is_never_run(proposal: str, why: str) -> None:
    """Nor one that reaches for more than the test did, also by what its file imports for others."""
    text = f"from urllib.request import urlopen as fetch\n{_TESTS}"
    tried = replace_function(text, _VICTIM, proposal)
    assert not tried.kept
    assert why in tried.reason


def test_a_method_is_replaced_at_its_indentation() -> None:
    text = "class TestX:\n    def test_a(self):\n        assert f()\n\n    def test_b(self): ...\n"
    tried = replace_function(text, "t.py::TestX::test_a[1]", "def test_a(self):\n    g()\n    assert f()\n")
    assert tried.text == text.replace("        assert", "        g()\n        assert")


async def test_the_agent_keeps_mends_as_a_patch(ground: LocalGround) -> None:
    """Measure, a refused proposal, a better one, and the conclusion, as a workflow runs them."""
    kept = KeptInMemory()
    ctx = step_context(FLAKY_TEST_HUNTER, ground, options={"runs": 6, "at_once": 2}, artifacts=kept)
    loop = FLAKY_TEST_HUNTER.loop
    assert loop

    found = await FLAKY_TEST_HUNTER.measure(ctx)
    assert [item.id for item in found.work] == [_VICTIM]
    question = await loop.question(ctx, _VICTIM, cast("Digest", found.state), None)
    assert "def test_a_pollutes" in cast("dict[str, str]", question.context)["what it depends on"]
    refused = await _round(loop, ctx, found.state, "def test_victim():\n    assert not SEEN\n")
    again = await loop.question(ctx, _VICTIM, refused.state, kept.kept[refused.feedback or ""].decode())
    assert "keep all of them" in cast("dict[str, str]", again.context)["what happened to your last mend"]
    held = await _round(loop, ctx, refused.state, _MENDED)
    concluded: Finding = await loop.conclude(ctx, held.state, [])

    assert (refused.kept, refused.done, held.kept, held.done) == (0, False, 1, True)
    values = [concluded.measurement.value(f"flaky.{name}") for name in ("tests", "mends_proposed", "mended")]
    assert values == [1, 2, 1]
    assert concluded.patch
    assert b"+    SEEN.clear()" in kept.kept[concluded.patch]
    assert concluded.headline.endswith("1 of 2 proposed mends hold")
    assert concluded.evidence == found.evidence


async def _round(loop: Any, ctx: Any, state: Digest | None, function: str) -> Verdict:
    return await loop.try_proposal(ctx, _VICTIM, TestMend(function=function), state)
