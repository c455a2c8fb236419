"""`qe learning`: what was tried, how it was rewarded, what was learnt."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from worker.cli.output import AsJson, print_rows

EXAMPLES = "[bold]Examples[/]\n\nqe learning\n\nqe learning test-generator --limit 5\n\nqe learning --json"

_SUMMARY = {
    "agent": "agent",
    "trajectories": "tried",
    "rewarded": "rewarded",
    "mean_reward": "mean reward",
    "learnt_values": "learnt values",
    "patterns": "patterns",
}
_LATEST = {"recorded_at": "when", "step": "step", "action": "action", "reward": "reward", "state": "state"}


def learning(
    agent: Annotated[
        str | None, typer.Argument(help="Its latest trajectories, instead of a line an agent.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what the fleet has recorded to learn from."""
    rows = asyncio.run(_rows(agent, limit))
    print_rows(rows, columns=_LATEST if agent else _SUMMARY, as_json=as_json, empty="nothing was tried yet")


async def _rows(agent: str | None, limit: int) -> list[dict[str, Any]]:
    from worker.cli.database import database, sql
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        if agent:
            found = await pool.fetch(sql("trajectories_of"), agent, limit)
        else:
            found = await pool.fetch(sql("learning_by_agent"))
    return [dict(row) for row in found]
