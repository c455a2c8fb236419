"""What of a project's memory a model is shown: the newest entries first, as many as a budget of tokens holds.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from qefleet.contracts.base import Model

TOKENS = 1_500
"""Of memory in a prompt."""
ENTRY_TOKENS = 400
"""Of one entry: a longer one is cut, so that it doesn't push out all others."""
BYTES_PER_TOKEN = 2
"""Of UTF-8. The local model's tokenizer has 2.1 to 2.3 in JSON of short texts, 3.4 to 4.7 in prose of three
languages and in code; no more than 1 in mere digits, so that these take twice what is counted here."""


@dataclass(frozen=True)
class Remembered:
    """An entry, or the beginning of it.

    Args:
        key: Its key.
        text: Its value as JSON.
        updated_at: When it was written last.
    """

    key: str
    text: str
    updated_at: datetime


class ShownMemory(Model):
    """What a step's model is shown of memory."""

    text: str = ""
    entries: int = 0
    tokens: int = 0
    """Of `text`, by its bytes."""
    left_out: int = 0
    """Entries that there was no room for, of those that were looked at."""


def shown_memory(newest: Sequence[Remembered], *, tokens: int = TOKENS) -> ShownMemory:
    """Choose what is shown.

    Args:
        newest: Entries, the newest first.
        tokens: What they may take together.
    """
    lines: list[str] = []
    taken = 0
    for entry in newest:
        line = _cut(f"{entry.key} ({entry.updated_at:%Y-%m-%d}): {entry.text}")
        if taken + (needed := tokens_of(line + "\n")) <= tokens:
            lines.append(line)
            taken += needed
    return ShownMemory(
        text="\n".join(lines), entries=len(lines), tokens=taken, left_out=len(newest) - len(lines)
    )


def tokens_of(text: str) -> int:
    """How many tokens a text counts as."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _cut(line: str) -> str:
    whole = line.encode()
    most = ENTRY_TOKENS * BYTES_PER_TOKEN - len("…\n".encode())
    return line if len(whole) <= most else whole[:most].decode(errors="ignore") + "…"
