"""What is shown of a conversation, however long it lives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qefleet.llm.conversation import SUMMARISED, Turn, messages_of

TEXT = st.builds(str.__mul__, st.text(max_size=4), st.integers(0, 100))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=5), inner, max_size=10),
    max_leaves=20,
)
MOST_CHARS = 3 * (600 + 2_000 + 200) + SUMMARISED * 400 + 500


def turn(number: int, answered: Any = None, asked: dict[str, Any] | None = None) -> Turn:
    return Turn(
        number=number,
        asked=asked or {"options": {"request": f"Request {number}."}, "measured": "18 agents"},
        answered={"tasks": [{"id": f"task-{number}"}]} if answered is None else answered,
        came_of_it="the run ended with GO; all completed",
    )


def test_the_window_is_shown_in_full_and_older_turns_in_a_line() -> None:
    """Each turn is what was asked with what came of it, and the answer as it was; the rest is a number."""
    messages = messages_of([turn(number) for number in range(984, 1000)], window=3)

    assert [message.role for message in messages] == ["user", "assistant"] * 3
    assert [json.loads(message.text)["tasks"][0]["id"] for message in messages[1::2]] == [
        "task-997",
        "task-998",
        "task-999",
    ]
    assert "984 turns before these are left out\n985: " in messages[0].text
    assert '996: {"options":{"request":"Request 996."}' in messages[0].text
    assert "the run ended with GO" in messages[2].text
    assert "left out" not in messages[2].text


@pytest.mark.parametrize(("turns", "window"), [([], 3), ([turn(1)], 0)])
def test_nothing_is_shown_of_nothing(turns: list[Turn], window: int) -> None:
    """No turn yet, or switched off: the prompt is as without a conversation."""
    assert messages_of(turns, window=window) == []


def test_a_first_turn_has_no_summary() -> None:
    """One turn is two messages."""
    first, second = messages_of([turn(1)], window=3)

    assert "in short" not in first.text
    assert json.loads(second.text) == turn(1).answered


def test_a_long_answer_is_shortened_in_its_parts() -> None:
    """It stays JSON where that makes it fit: texts and lists are cut, no field is lost."""
    answered = {"why": "x" * 5_000, "tasks": [{"id": str(n)} for n in range(500)], "last": 1}
    shown = json.loads(messages_of([turn(1, answered)], window=1)[1].text)

    assert (len(shown["why"]), len(shown["tasks"]), shown["last"]) == (160, 8, 1)


@settings(max_examples=30)
@given(st.lists(st.tuples(JSON, st.dictionaries(st.text(max_size=5), JSON, max_size=5)), max_size=18))
def test_what_is_shown_is_bounded(said: list[tuple[Any, dict[str, Any]]]) -> None:
    """Whatever agents answer, and however much."""
    turns = [turn(number, answered, asked) for number, (answered, asked) in enumerate(said, start=1)]

    assert sum(len(message.text) for message in messages_of(turns, window=3)) < MOST_CHARS
