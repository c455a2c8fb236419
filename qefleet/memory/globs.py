"""Globs over keys: `*` stands for any text, `?` for one character, everything else for itself."""

from __future__ import annotations

import re

_LAST = "\U0010ffff"


def matcher(glob: str) -> re.Pattern[str]:
    """What matches whole keys."""
    parts = {"*": ".*", "?": "."}
    pattern = "".join(parts.get(character) or re.escape(character) for character in re.sub(r"\*+", "*", glob))
    return re.compile(rf"(?s:{pattern})\Z")


def like_pattern(glob: str) -> str:
    """The glob as SQL's LIKE reads it, whose own wildcards become plain characters first."""
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def glob_bounds(glob: str) -> tuple[str, str | None]:
    """First key that can match, and a key beyond all that can; None when nothing is.

    The comparison is by code point (in Postgres the column's collation is "C").
    """
    literal = min((glob.partition(wildcard)[0] for wildcard in "*?"), key=len)
    if literal == glob:
        return literal, None
    return literal, beyond(literal)


def beyond(prefix: str) -> str | None:
    """The first key behind all that begin so; None when there is none."""
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = chr(ord(stem[-1]) + 1)
    # Surrogates are no characters: the next one is behind them.
    return stem[:-1] + ("\ue000" if "\ud800" <= following <= "\udfff" else following)
