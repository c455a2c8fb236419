"""What lionagi's lenient parser mends and what it refuses: the second chance of `parse_reply`."""

# lionagi's own signatures leave much bare; what matters here is what happens at run time.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import pytest
from lionagi.ln.fuzzy import (
    fuzzy_validate_pydantic,
)
from pydantic import BaseModel


class Out(BaseModel):
    tests: str
    count: int


@pytest.mark.parametrize(
    "text",
    [
        '{"tests": "a", "count": 2}',
        '```json\n{"tests": "a", "count": 2}\n```',
        'Here it is:\n```json\n{"tests": "a", "count": 2}\n```\nDone.',
        "{'tests': 'a', 'count': 2}",
        '{"tests": "a", "count": 2,}',
        '{tests: "a", count: 2}',
        '{"test": "a", "count": 2}',
        '{"tests": "a", "count": 2, "more": 1}',
        '{"tests": "a", "count": 2',
    ],
    ids=["plain", "fence", "prose", "quotes", "comma", "bare keys", "misspelt", "extra", "truncated"],
)
def test_it_mends(text: str) -> None:
    """Common slips still give a real object; so does truncated JSON, which we see to ourselves."""
    assert fuzzy_validate_pydantic(text, Out, fuzzy_match=True) == Out(tests="a", count=2)


@pytest.mark.parametrize(
    "text",
    ["", "No.", '{"tests": "a"}', '<think>a {"b": 1} c</think>{"tests": "a", "count": 2}', "[1, 2]"],
    ids=["empty", "prose", "missing field", "thinking", "list"],
)
def test_it_refuses(text: str) -> None:
    """What has no such object raises one of the errors that `parse_reply` takes for that."""
    with pytest.raises((ValueError, TypeError, AttributeError, KeyError)):
        fuzzy_validate_pydantic(text, Out, fuzzy_match=True)
