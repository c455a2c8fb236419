"""`qe calls`: the ledger of model calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.ledger import Since, begin_of, run_named
from worker.cli.output import AsJson, print_rows

if TYPE_CHECKING:
    from datetime import datetime

    from qefleet.llm.receipts import ListedCall

EXAMPLES = (
    "[bold]Examples[/]\n\nqe calls\n\nqe calls qe-boltons-1a2b3c\n\n"
    "qe calls --since 24h\n\nqe calls --limit 1000 --json"
)

_COLUMNS = {
    "step": "step",
    "tier": "tier",
    "model": "model",
    "state": "state",
    "attempts": "sent",
    "replays": "replayed",
    "input_tokens": "in",
    "output_tokens": "out",
    "cost_usd": "USD",
    "saved_usd": "saved",
    "last_error": "last error",
}


def calls(
    run: Annotated[str | None, typer.Argument(help="A workflow id or run id; all runs without it.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """List model calls, newest first: what was sent, bought, replayed, what it cost and what replay saved."""
    found = asyncio.run(_calls(run, limit, begin_of(since)))
    rows = [call.model_dump(mode="json") for call in found]
    if not as_json:
        rows = [row | {"model": f"{row['provider']}/{row['model']}"} for row in rows]
    print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="no model was called yet")


async def _calls(run: str | None, limit: int, since: datetime | None) -> list[ListedCall]:
    from qefleet.llm.receipts import list_calls
    from worker.cli.database import database
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        return await list_calls(pool, run_id=await run_named(pool, run), since=since, limit=limit)
