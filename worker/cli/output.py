"""How commands speak: results on stdout, everything else on stderr, errors in words."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 200
GO, NO_GO, UNUSABLE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def stdout() -> Console:
    """For results."""
    from rich.console import Console

    # A pipe has no width: wide enough that a program which cuts columns sees whole lines.
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def stderr() -> Console:
    """For progress, notices and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a value, and nothing else, on stdout."""
    from pydantic_core import to_jsonable_python

    text = json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        text = json.dumps(to_jsonable_python(value), indent=2)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # `qe up --json` goes on, and who started it waits for this


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, columns: Mapping[str, str], as_json: bool, empty: str
) -> None:
    """Print rows as JSON, or as a table with these columns (key → heading); `empty` where there are none."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        stdout().print(empty)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading in columns.items():
        numeric = all(isinstance(row.get(key), int | float | None) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(key))) for key in columns))
    stdout().print(table)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4f}".rstrip("0").rstrip(".")
        case _:
            return str(value)


def explain(error: Exception) -> int:
    """Say what went wrong on stderr, and return the exit code for it; a bug is told with its trace."""
    from pydantic import ValidationError

    from qefleet.errors import QeError, UsageError
    from worker.services.state import AlreadyRunning

    match error:
        case AlreadyRunning():
            code = NO_GO
        case UsageError():
            code = UNUSABLE
        case QeError():
            code = FAILED
        case ValidationError():
            code = UNUSABLE
        case _:
            traceback.print_exception(error)
            return FAILED
    from rich.markup import escape

    stderr().print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
    return code
