"""From a model's text to a typed value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from qefleet.llm.reply import UnusableReplyError, parse_reply, read_answer


class Out(BaseModel):
    code: str
    count: int = 0


CODE = "def test_a():\n    assert f('x') == \"y\"\n"
JSON = json.dumps({"code": CODE})


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"<think>\nLet me see: {{}}\n</think>\n{JSON}",
        f"```json\n{JSON}\n```",
        f"Here are the tests:\n\n{JSON}\n\nThey pass.",
        '{"code": "' + CODE.replace('"', '\\"') + '"}',
        JSON[:-1] + ",}",
    ],
    ids=["plain", "thinking", "fence", "prose", "raw line breaks", "trailing comma"],
)
def test_code_comes_out_as_it_was_written(text: str) -> None:
    """Whatever a model wraps around it, the code in the answer keeps each of its characters."""
    assert parse_reply(text, Out, cut_off=False) == Out(code=CODE)


@given(st.text(min_size=1), st.integers())
def test_any_answer_survives_json(code: str, count: int) -> None:
    """What a provider encodes as JSON is read back unchanged."""
    out = Out(code=code, count=count)

    assert parse_reply(json.dumps(out.model_dump()), Out, cut_off=False) == out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it was empty."),
        ("<think>hm</think>  ", "it was empty."),
        ("I can't do that.", "it was not one JSON object."),
        ("[" * 100_000, "it was not one JSON object."),
        ('{"code": "\\ud800"}', "it held a character that is none."),
        (
            '{"count": "many"}',
            "it did not fit the schema (code: Field required; count: Input should be a valid ",
        ),
    ],
)
def test_what_is_wrong_is_told_to_the_model(text: str, complaint: str) -> None:
    """The complaint names what to mend, and holds none of the reply."""
    with pytest.raises(UnusableReplyError) as raised:
        parse_reply(text, Out, cut_off=False)

    assert str(raised.value).startswith(complaint)


def test_a_cut_off_answer_is_not_mended() -> None:
    """lionagi would close the brackets of half an answer; ours is a complaint about its length."""
    with pytest.raises(UnusableReplyError, match="length limit"):
        parse_reply(JSON[:-3], Out, cut_off=True)


def test_a_complete_answer_counts_though_it_was_cut_off() -> None:
    """What follows a complete object doesn't matter."""
    assert parse_reply(f"{JSON}\n\nThis te", Out, cut_off=True) == Out(code=CODE)


def test_an_answer_that_fits_may_still_be_refused() -> None:
    """What the schema can't say is checked once the answer is read; the reason goes back to the model."""

    def even(answer: Out) -> None:
        if answer.count % 2:
            raise ValueError("count: should be even")

    assert read_answer('{"code": "x", "count": 2}', Out, cut_off=False, check=even).count == 2
    with pytest.raises(UnusableReplyError, match=r"it can't be accepted \(count: should be even\)\."):
        read_answer('{"code": "x", "count": 3}', Out, cut_off=False, check=even)
