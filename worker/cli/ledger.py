"""What the commands that read the ledger have in common: which run, and since when."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

Since = Annotated[
    str | None,
    typer.Option(help="Calls first made since then: 90m, 24h, 7d, or a date such as 2026-01-31 (UTC)."),
]
_AGO = re.compile(r"([0-9]{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def begin_of(since: str | None, *, now: datetime | None = None) -> datetime | None:
    """The moment that `--since` names.

    Raises:
        UsageError: It names none.
    """
    from qefleet.errors import UsageError

    if since is None:
        return None
    try:
        if ago := _AGO.fullmatch(since):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(since)
    except (ValueError, OverflowError) as error:
        raise UsageError("--since: should be such as 90m, 24h, 7d or 2026-01-31") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def run_named(pool: asyncpg.Pool, name: str | None) -> UUID | None:
    """The latest run under a workflow id, or the one of a run id; None where none is named.

    Raises:
        UsageError: There is no such run.
    """
    from uuid import UUID

    from qefleet.errors import UsageError
    from worker.cli.database import sql

    if name is None:
        return None
    row = await pool.fetchrow(sql("run_report"), name)
    if row is None:
        raise UsageError(f"no run {name} is recorded; `qe report` lists them")
    return UUID(row["run_id"])
