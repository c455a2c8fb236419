"""Python source as models put it into JSON, and the one slip that can be undone without guessing."""

from __future__ import annotations

import ast
import warnings

_MOST_JOINS = 200


def python_source(text: str) -> str:
    r"""Undo line breaks that a model spelt as `\n` where its code needed `\\n`.

    Small models write the source `"a\nb"` into a JSON string with one backslash: what arrives has a string
    literal that is broken across two lines. Such lines are joined again, the break spelt out.

    Returns:
        The mended source; the text as it came where it has no such break, or another fault.
    """
    lines = text.split("\n")
    for _ in range(_MOST_JOINS):
        broken = _broken_line("\n".join(lines))
        if broken is None or broken >= len(lines):
            break
        lines[broken - 1 : broken + 1] = [f"{lines[broken - 1]}\\n{lines[broken]}"]
    return "\n".join(lines) if _broken_line("\n".join(lines)) is None else text


def _broken_line(source: str) -> int | None:
    """Number of the line in which a string literal isn't ended."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash that means nothing is no fault here
            ast.parse(source)
    except SyntaxError as error:
        return (
            error.lineno if error.msg.startswith(("unterminated string", "unterminated f-string")) else None
        )
    except (ValueError, RecursionError, MemoryError):  # no source at all
        return None
    return None
