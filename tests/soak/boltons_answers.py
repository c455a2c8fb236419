"""What the scripted provider proposes for boltons: right tests, and every kind of wrong one beside them."""

from __future__ import annotations

import json
import re
from typing import Any

GOOD = {
    "is_ascii": """from boltons.strutils import is_ascii


def test_is_ascii_tells_text_and_bytes_apart():
    assert is_ascii("abc") is True
    assert is_ascii("é") is False
    assert is_ascii(b"\\xff") is False
""",
    "ordinalize": """from boltons.strutils import ordinalize


def test_ordinalize_gives_each_ending():
    assert [ordinalize(n) for n in (1, 2, 3, 4, 12, 23)] == ["1st", "2nd", "3rd", "4th", "12th", "23rd"]
    assert ordinalize("hi") == "hi"
""",
    "untyped_sorted": """from boltons.iterutils import untyped_sorted


def test_untyped_sorted_orders_numbers_before_text():
    assert untyped_sorted(["b", 1, "a", 0]) == [0, 1, "a", "b"]
    assert untyped_sorted([2, 1], reverse=True) == [2, 1]
""",
    "unwrap_text": """from boltons.strutils import unwrap_text


def test_unwrap_text_joins_lines_of_a_paragraph():
    assert unwrap_text("a\\nb\\n\\nc") == "a b\\n\\nc"
    assert unwrap_text("a\\nb\\n\\nc", ending=None) == ["a b", "c"]
""",
    "int_ranges_from_int_list": """from boltons.strutils import int_ranges_from_int_list


def test_int_ranges_are_pairs():
    assert int_ranges_from_int_list("1,2,5-7") == ((1, 2), (5, 7))
    assert int_ranges_from_int_list("") == ()
""",
}

WRONG_ASSERT = "def test_wrong_assert():\n    assert {call} == 'nothing gives this'\n"
NO_ASSERT = "def test_no_assert():\n    {call}\n"
NETWORK = """def test_network():
    import urllib.request

    {call}
    assert urllib.request.urlopen("http://example.com", timeout=3).status == 200
"""
ENDLESS = (
    "def test_endless():\n    while {call} is not Ellipsis:\n        pass\n    assert {call} == [1, 2]\n"
)
EXIT = "def test_exit():\n    import os\n\n    assert {call} is not None\n    os._exit(0)\n"
PYTEST_EXIT = """def test_pytest_exit():
    import pytest

    assert {call} is not None
    pytest.exit("done", returncode=0)
"""
DELETES = """def test_deletes():
    import os
    import boltons.setutils

    os.remove(boltons.setutils.__file__)
    assert {call} is not None
"""
SKIPPED = "import pytest\n\n\n@pytest.mark.skip\ndef test_skipped():\n    assert {call} is not None\n"
XFAIL = "import pytest\n\n\n@pytest.mark.xfail\ndef test_xfail():\n    assert {call} == 'no'\n"

BAD = {
    "is_ascii": [WRONG_ASSERT, NO_ASSERT, SKIPPED],
    "ordinalize": [NETWORK, EXIT],
    "untyped_sorted": [ENDLESS, XFAIL],
    "unwrap_text": [DELETES],
    "int_ranges_from_int_list": [PYTEST_EXIT],
}
EXPECTED = {
    "test_wrong_assert": "runs",
    "test_no_assert": "static",
    "test_skipped": "static",
    "test_network": "static",
    "test_exit": "report",
    "test_endless": "runs",
    "test_xfail": "static",
    "test_deletes": "static",
    "test_pytest_exit": "report",
    "test_duplicate": "gain",
}
CALLS = {
    "is_ascii": 'is_ascii("abc")',
    "ordinalize": "ordinalize(1)",
    "untyped_sorted": "untyped_sorted([2, 1])",
    "unwrap_text": 'unwrap_text("a")',
    "int_ranges_from_int_list": 'int_ranges_from_int_list("1")',
}


def proposal(name: str) -> str:
    """The right test first, then a duplicate of its gain, then the wrong ones."""
    good, call = GOOD[name], CALLS[name]
    duplicate = re.sub(r"def test_\w+", "def test_duplicate", good.split("\n\n\n", 1)[1])
    return "\n\n".join([good, duplicate, *(bad.format(call=call) for bad in BAD[name])])


def answer(prompt: str, request: dict[str, Any]) -> str:
    """A proposal for the functions above, prose that is no test for all others."""
    del request
    asked = re.search(r"Write three tests for `([\w.]+)`", prompt)
    if asked and asked[1] in GOOD:
        return json.dumps({"tests": proposal(asked[1])})
    if asked:
        return json.dumps({"tests": "# I would rather not\n"})
    return json.dumps({"summary": "helpers", "first": [], "causes": [], "next_steps": []})
