"""Taking proposals apart, and the first filter."""

from __future__ import annotations

import pytest

from qefleet.contracts.generation import Segment
from qefleet.tools.generation.proposal import Proposal, read_proposal
from qefleet.tools.generation.static_filter import reaching_problem, static_problem
from qefleet.tools.source_tree import SourceTree, parse_source

_SUBJECT = """
import re
from datetime import timedelta

LIMIT = 3

def double(x):
    return 2 * x

class Box:
    def get(self):
        return 1
"""


def _subject() -> SourceTree:
    tree = parse_source(_SUBJECT)
    assert tree is not None
    return tree


def _segment(qualname: str = "double") -> Segment:
    return Segment(
        id=f"pkg.mod:{qualname}",
        file="pkg/mod.py",
        module="pkg.mod",
        qualname=qualname,
        start_line=7,
        end_line=8,
        source="",
        missing_lines=[8],
        missing_branches=[],
        import_line=f"from pkg.mod import {qualname}",
    )


def _read(text: str) -> Proposal:
    return read_proposal(text, _segment(), _subject())


def _problem(text: str) -> str | None:
    (test,) = _read(text).tests
    return static_problem(test, _segment())


def test_tests_are_split_with_what_each_needs() -> None:
    """Each test gets its own imports, helpers and fixtures, also those that helpers use, and no others."""
    proposal = _read(
        "import math\nimport pytest\nfrom pkg.mod import double\n\nBASE = 2\n\n"
        "def helper():\n    return BASE\n\n@pytest.fixture\ndef box():\n    return math.pi\n\n"
        "def test_one():\n    assert double(helper()) == 4\n\n\ndef test_two(box):\n    assert box > 3\n"
    )

    one, two = proposal.tests

    assert one.text == (
        "from pkg.mod import double\n\n\nBASE = 2\n\n\ndef helper():\n    return BASE\n\n\n"
        "def test_one():\n    assert double(helper()) == 4\n"
    )
    assert two.import_lines == ["import math", "import pytest"]
    assert [helper.binds for helper in two.helpers] == [frozenset({"box"})]


def test_fences_and_prose_are_dropped() -> None:
    """What a chat model writes around the code isn't code."""
    proposal = _read("Here you are:\n```python\ndef test_a():\n    assert double(1) == 2\n```\nGood luck!\n")

    assert [test.text for test in proposal.tests] == [
        "from pkg.mod import double\n\n\ndef test_a():\n    assert double(1) == 2\n"
    ]


def test_a_copy_of_the_code_under_test_is_replaced_by_the_real_one() -> None:
    """What is tested is always the project's own code."""
    (test,) = _read("def double(x):\n    return x * 2\n\ndef test_a():\n    assert double(1) == 2\n").tests

    assert test.import_lines == ["from pkg.mod import double"]
    assert test.helpers == ()
    assert test.notes == ("a copy of double was dropped and the real one imported",)


def test_one_broken_test_does_not_spoil_the_others() -> None:
    """A piece that isn't Python is named, and the rest is judged."""
    proposal = _read(
        "def test_a():\n    assert double(1) == 2\n\ndef test_b():\n    assert double( == 2\n\n"
        "@pytest.mark.parametrize('x', [1])\ndef test_c(x):\n    assert double(x) == 2\n"
    )

    assert [test.name for test in proposal.tests] == ["test_a", "test_c"]
    assert [name for name, _ in proposal.unreadable] == ["test_b"]


def test_missing_imports_are_found_where_the_module_under_test_has_them() -> None:
    """pytest, the standard library, and what the module offers or imports itself need no import."""
    (test,) = _read(
        "def test_a():\n    with pytest.raises(TypeError):\n        double()\n"
        "    assert timedelta(LIMIT) and math.pi\n"
    ).tests

    assert test.import_lines == [
        "from datetime import timedelta",
        "from pkg.mod import LIMIT",
        "from pkg.mod import double",
        "import math",
        "import pytest",
    ]


def test_methods_of_plain_test_classes_become_functions() -> None:
    """A class that holds nothing but tests is only a name for them."""
    (test,) = _read("class TestDouble:\n    def test_a(self):\n        assert double(1) == 2\n").tests

    assert test.source == "def test_a():\n    assert double(1) == 2"


def test_methods_that_need_their_class_keep_it() -> None:
    """Each candidate is the class with one test, so that set-up still runs."""
    tests = _read(
        "import unittest\nclass TestDouble(unittest.TestCase):\n    def setUp(self):\n        self.x = 1\n\n"
        "    def test_a(self):\n        self.assertEqual(double(self.x), 2)\n\n"
        "    def test_b(self):\n        self.assertEqual(double(0), 0)\n"
    ).tests

    assert [test.name for test in tests] == ["TestDouble_test_a", "TestDouble_test_b"]
    assert "setUp" in tests[1].source
    assert "test_a" not in tests[1].source.replace("TestDouble_test_b", "")


@pytest.mark.parametrize(
    "body",
    [
        "assert double(1) == 2",
        "with pytest.raises(TypeError):\n        double()",
        "with pytest.warns(UserWarning):\n        double(1)",
        "result = double(2)\n    assert result == 4, 'four'",
        "for x in (1, 2):\n        assert double(x) == 2 * x",
        "try:\n        double()\n    except TypeError as error:\n        assert 'x' in str(error)",
    ],
)
def test_a_test_that_asserts_passes_the_first_filter(body: str) -> None:
    """Assertions in the usual forms are recognised."""
    assert _problem(f"def test_a():\n    {body}\n") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def test_a():\n    double(1)\n", "asserts nothing"),
        ("def test_a():\n    double(1)\n    assert True\n", "always true"),
        ("def test_a():\n    x = double(1)\n    assert x == x\n    assert 1 + 1 == 2\n", "always true"),
        (
            "def test_a():\n    try:\n        assert double(1) == 3\n    except Exception:\n        pass\n",
            "asserts nothing",
        ),
        ("@pytest.mark.skip\ndef test_a():\n    assert double(1) == 2\n", "skip"),
        ("@pytest.mark.xfail(reason='x')\ndef test_a():\n    assert double(1) == 3\n", "xfail"),
        ("def test_a():\n    pytest.importorskip('numpy')\n    assert double(1) == 2\n", "importorskip"),
        ("import unittest\ndef test_a():\n    raise unittest.SkipTest\n", "SkipTest"),
        (
            "def test_a():\n    def double(x):\n        return 2\n    assert double(1) == 2\n",
            "its own double",
        ),
        ("def test_a():\n    assert double(undefined_thing) == 2\n", "nothing defines undefined_thing"),
    ],
)
def test_the_first_filter_says_why(text: str, reason: str) -> None:
    """What can't be a good test is rejected before anything runs, with the reason."""
    assert reason in (_problem(text) or "")


def test_a_helper_that_asserts_counts() -> None:
    """An assertion may stand in a helper that the test calls."""
    text = "def check(x):\n    assert double(x) == 2 * x\n\ndef test_a():\n    check(1)\n"

    assert _problem(text) is None


def test_a_module_that_skips_all_is_recognised() -> None:
    """A `pytestmark` that skips speaks for every test of the proposal."""
    assert _read(
        "pytestmark = pytest.mark.skip\ndef test_a():\n    assert double(1) == 2\n"
    ).skipped_as_a_whole


@pytest.mark.parametrize(
    "text", ["", "I can't help with that.", "```\n```", "def helper():\n    pass", "\x00", "[" * 3000]
)
def test_a_proposal_without_tests_is_empty(text: str) -> None:
    """Anything that isn't a test file is read without harm."""
    assert _read(text) == Proposal(tests=(), unreadable=())


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("    import socket\n    socket.create_connection(('x', 1))\n", "socket"),
        ("    from urllib.request import urlopen\n    urlopen('http://x')\n", "urllib"),
        ("    import os\n    os.remove('/tmp/x')\n", "remove"),
        ("    from os import environ\n    print(environ)\n", "environ"),
        ("    open('/tmp/x', 'w')\n", "open"),
        ("    eval('1')\n", "eval"),
    ],
)
def test_a_test_that_reaches_beyond_the_code_is_refused(body: str, named: str) -> None:
    """It would be run where the user runs the suite, without a sandbox."""
    (test,) = _read(f"def test_a():\n{body}    assert double(1) == 2\n").tests

    problem = reaching_problem(test, _subject())

    assert problem
    assert named in problem


def test_what_the_code_under_test_does_itself_its_test_may_do() -> None:
    """Code that reads files is tested with files."""
    tree = parse_source("def double(path):\n    return open(path).read() * 2\n")
    (test,) = _read("def test_a():\n    assert double(open('x').name) == 2\n").tests

    assert tree
    assert reaching_problem(test, tree) is None
    assert reaching_problem(test, _subject()) is not None
