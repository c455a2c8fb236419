"""The first of many: the page stays readable, whatever a run has found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Kind = Literal["good", "warn", "bad", "plain"]
"""How something is coloured; it is told in words besides."""

NOTES = 50
"""Notes and the like, of one kind."""


@dataclass(frozen=True)
class Shown(Generic[T]):
    """The first of many, and how many more there are."""

    rows: Sequence[T]
    more: int = 0

    def __bool__(self) -> bool:
        return bool(self.rows)


def first(rows: Iterable[T], limit: int) -> Shown[T]:
    """At most so many."""
    listed = list(rows)
    return Shown(listed[:limit], max(0, len(listed) - limit))
