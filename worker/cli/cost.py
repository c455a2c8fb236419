"""`qe cost`: what model calls cost, summed, and what the ledger saved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.ledger import Since, begin_of, run_named
from worker.cli.output import AsJson, print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from qefleet.llm.receipts import By, Cost

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "qe cost\n\n"
    "qe cost --by agent --since 7d\n\n"
    "qe cost --by project --since 2026-01-01\n\n"
    "qe cost qe-boltons-1a2b3c --by model\n\n"
    "qe cost --by day --json"
)
_COLUMNS = {
    "calls": "calls",
    "input_tokens": "in",
    "output_tokens": "out",
    "cost_usd": "USD",
    "unpriced_calls": "no price",
    "replayed_calls": "replayed",
    "saved_usd": "saved USD",
}
_SUMMED = tuple(_COLUMNS)


def cost(
    run: Annotated[str | None, typer.Argument(help="A workflow id or run id; all runs without it.")] = None,
    by: Annotated[
        Literal["run", "agent", "model", "tier", "project", "day"], typer.Option(help="What to sum by.")
    ] = "run",
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Sum up model calls: what was bought and what it cost, what was replayed and what that saved."""
    found = asyncio.run(_cost(run, by, begin_of(since)))
    rows = [line.model_dump(mode="json") for line in found]
    columns = {"name": by, **_COLUMNS}
    if not as_json:
        if by in ("run", "agent", "project"):
            columns |= {"tiers": "tiers", "models": "models"}
        rows = [_for_people(row) for row in [*rows, *_total(rows)]]
    print_rows(rows, columns=columns, as_json=as_json, empty="no model was called yet")


def _total(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One more row where there are several."""
    if len(rows) < 2:  # noqa: PLR2004
        return []
    known = {name: [row[name] for row in rows if row[name] is not None] for name in _SUMMED}
    sums = {name: sum(values) if values else None for name, values in known.items()}
    return [{"name": "all", **sums, "tiers": [], "models": []}]


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: ", ".join(row[name]) for name in ("tiers", "models")}


async def _cost(run: str | None, by: By, since: datetime | None) -> list[Cost]:
    from qefleet.llm.receipts import costs
    from worker.cli.database import database
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        return await costs(pool, by=by, run_id=await run_named(pool, run), since=since)
