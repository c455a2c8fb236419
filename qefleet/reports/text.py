"""Text from repositories, tools and models, made fit to be shown."""

from __future__ import annotations

import re

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")

NOTHING = "\u2013"
"""Stands where there is no value."""


def for_xml(text: str) -> str:
    """Without what XML can't hold."""
    return _NO_XML.sub("\ufffd", text)


def for_page(text: str) -> str:
    """Without what HTML can't hold, and without marks that turn the direction of what follows them.

    Escaping is the template's.
    """
    return _TURNS.sub("\ufffd", for_xml(text))


def shortened(text: str, limit: int) -> str:
    """Its end, which tells most of a path and of a test's name."""
    return text if len(text) <= limit else "…" + text[1 - limit :]


def figure(value: float) -> str:
    """A number for people, such as `1,234`, `86.68` or `0.0042`."""
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004 - beyond, a float's digits are no longer its own
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def seconds(value: float) -> str:
    """A duration, such as `4 ms`, `2.6 s`, `1:05 min` or `2:03 h`."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:  # noqa: PLR2004
        return f"{value:.1f} s"
    minutes = round(value / 60) if value >= 3600 else int(value / 60)  # noqa: PLR2004
    return f"{minutes // 60}:{minutes % 60:02} h" if value >= 3600 else f"{minutes}:{int(value % 60):02} min"  # noqa: PLR2004
