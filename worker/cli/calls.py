"""`qe calls`: the ledger of model calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output import AsJson, print_rows

if TYPE_CHECKING:
    from qefleet.llm.receipts import ListedCall

EXAMPLES = "[bold]Examples[/]\n\nqe calls\n\nqe calls qe-boltons-1a2b3c\n\nqe calls --limit 1000 --json"

_COLUMNS = {
    "step": "step",
    "model": "model",
    "state": "state",
    "attempts": "sent",
    "replays": "replayed",
    "input_tokens": "in",
    "output_tokens": "out",
    "cost_usd": "USD",
    "last_error": "last error",
}


def calls(
    run: Annotated[str | None, typer.Argument(help="A workflow id or run id; all runs without it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    as_json: AsJson = False,
) -> None:
    """List model calls, newest first: what was sent, bought, replayed, and what it cost."""
    found = asyncio.run(_calls(run, limit))
    rows = [call.model_dump(mode="json") for call in found]
    if not as_json:
        rows = [row | {"model": f"{row['provider']}/{row['model']}"} for row in rows]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="no model was called yet")


async def _calls(run: str | None, limit: int) -> list[ListedCall]:
    from uuid import UUID

    from qefleet.errors import UsageError
    from qefleet.llm.receipts import list_calls
    from worker.cli.database import database, sql
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        run_id: UUID | None = None
        if run is not None:
            row = await pool.fetchrow(sql("run_report"), run)
            if row is None:
                raise UsageError(f"no run {run} is recorded; `qe report` lists them")
            run_id = UUID(row["run_id"])
        return await list_calls(pool, run_id=run_id, limit=limit)
