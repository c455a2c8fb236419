"""A JSON value as the page shows it: nested lists, bounded, with what is cited linked to its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from qefleet.reports.text import NOTHING, figure

_ENTRIES = 40
_DEPTH = 6
_CHARS = 2000


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A text, or named and unnamed parts."""

    text: str | None = None
    anchor: str | None = None
    """Where on the page the text has its place."""
    named: tuple[tuple[str, Tree], ...] = ()
    listed: tuple[Tree, ...] = ()
    more: int = 0
    """Parts that are left out."""

    @property
    def flat(self) -> bool:
        """Whether its parts stand well in one line."""
        return bool(self.named) and not self.more and all(part.text is not None for _, part in self.named)


def tree(value: Any, anchors: Mapping[str, str], *, depth: int = _DEPTH) -> Tree:
    """Read a value.

    Args:
        value: As JSON gives it.
        anchors: By what may be cited: its place on the page.
        depth: Levels that are shown below this one.
    """
    match value:
        case dict() if depth:
            entries = [(name, part) for name, part in cast("dict[str, Any]", value).items() if _tells(part)]
            named = tuple((name, tree(part, anchors, depth=depth - 1)) for name, part in entries[:_ENTRIES])
            return Tree(named=named, more=len(entries) - len(named))
        case list() if depth:
            parts = cast("list[Any]", value)
            listed = tuple(tree(part, anchors, depth=depth - 1) for part in parts[:_ENTRIES])
            return Tree(listed=listed, more=len(parts) - len(listed))
        case dict() | list():
            return Tree(text="…")
        case str():
            return Tree(text=value[:_CHARS] + ("…" if len(value) > _CHARS else ""), anchor=anchors.get(value))
        case _:
            return Tree(text=_plain(value))


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return figure(value)
        case _:
            return NOTHING


def _tells(value: Any) -> bool:
    return value is not None and value not in ("", [], {})
