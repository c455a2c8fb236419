"""What an agent goes on from: its latest turns in full, older ones in a line each, the rest as a number.

However long a conversation lives, what is shown of it stays below a bound. No model is asked for the summary:
it is made of the typed answers themselves. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from qefleet.llm.question import Message, fenced

SUMMARISED = 12
"""Turns before the window that are told in a line each."""
_BEGINNING = (
    "What you were asked in earlier runs about the same project, what you answered and what came of it; "
    "your task is in the last message.\n\n"
)
_ASKED_CHARS, _ANSWERED_CHARS = 600, 2_000
"""Of a turn in the window."""
_LINE_CHARS = 100
"""Of each half of a summary's line."""
_TEXT_CHARS, _LIST_ITEMS = 160, 8
"""Of a text and a list in an answer that is too long as it is."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What an agent was asked in an earlier run, what it answered, and what came of it.

    Args:
        number: Counted from 1 over all runs.
        asked: Its options, and what was measured in a line.
        answered: Its judgement.
        came_of_it: How the run ended, as far as that was known when this run began.
    """

    number: int
    asked: dict[str, Any]
    answered: Any
    came_of_it: str


def messages_of(turns: Sequence[Turn], *, window: int) -> list[Message]:
    """The messages that a Branch is resumed with.

    Args:
        turns: The latest ones, oldest first: at most `window + SUMMARISED` are looked at.
        window: How many are shown in full.
    """
    if not window or not turns:
        return []
    shown, older = turns[-window:], turns[:-window][-SUMMARISED:]
    messages: list[Message] = []
    before = _BEGINNING + (_summary(older) if older else "")
    for turn in shown:
        asked = fenced(
            "an earlier run", _cut(_compact({**turn.asked, "came_of_it": turn.came_of_it}), _ASKED_CHARS)
        )
        messages += [
            Message(role="user", text=f"{before}{asked}"),
            Message(role="assistant", text=_answer(turn.answered)),
        ]
        before = ""
    return messages


def _summary(older: Sequence[Turn]) -> str:
    lines = [
        f"{turn.number}: {_line(turn.asked)} -> {_line(turn.answered)} ({_cut(turn.came_of_it, _LINE_CHARS)})"
        for turn in older
    ]
    if left_out := older[0].number - 1:
        lines.insert(0, f"{left_out} turns before these are left out")
    return fenced("earlier runs in short", "\n".join(lines)) + "\n\n"


def _answer(answered: Any) -> str:
    whole = _compact(answered)
    return whole if len(whole) <= _ANSWERED_CHARS else _cut(_compact(_shortened(answered)), _ANSWERED_CHARS)


def _shortened(value: Any) -> Any:
    match value:
        case str():
            return _cut(value, _TEXT_CHARS)
        case list():
            return [_shortened(item) for item in cast("list[Any]", value)[:_LIST_ITEMS]]
        case dict():
            return {key: _shortened(item) for key, item in cast("dict[str, Any]", value).items()}
        case _:
            return value


def _line(value: Any) -> str:
    return _cut(_compact(value), _LINE_CHARS)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
