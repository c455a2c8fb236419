"""What runs, steps and calls asked of models, read from the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from qefleet.contracts.base import Model
from qefleet.contracts.runs import Usage
from qefleet.llm.tokens import CallIdentity
from qefleet.sql.database import retrying
from qefleet.sql.queries import load_queries


class Receipt(Model):
    """One logical call."""

    call_key: str
    state: str
    """`answered`, `claimed` (in flight, or its gateway died) or `open` (failed so far)."""
    attempts: int
    """Requests sent to the provider for it, those that failed included."""
    replays: int
    """Times that the stored answer was served instead of buying one."""
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


class ListedCall(Receipt):
    """One line of `qe calls`."""

    run_id: UUID
    workflow_id: str
    step: str
    agent: str
    ordinal: int
    provider: str
    model: str
    response_status: int | None
    priced: bool
    """False where the cost is unknown, or no more than a bound."""
    created_at: datetime
    answered_at: datetime | None
    last_error: str | None


async def usage_of(pool: asyncpg.Pool, run_id: UUID, step: str | None = None) -> Usage:
    """What a run, or one step with all below it (`step/…`), asked of models.

    `calls` are answers bought, also those that came twice; `replayed_calls` were served from the ledger.
    """
    name, values = ("usage", (run_id,)) if step is None else ("usage_of_step", (run_id, step))
    row = await retrying(lambda: pool.fetchrow(load_queries()[name], *values))
    assert row is not None, "an aggregate has a row"
    return Usage(
        calls=row["calls"],
        replayed_calls=row["replayed"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_usd=_usd(row["cost_usd"]),
    )


async def receipt(pool: asyncpg.Pool, call: str | CallIdentity) -> Receipt | None:
    """One call's figures, by its key (the `x-qe-call` header) or by who made it; None when there is none."""
    if isinstance(call, str):
        row = await retrying(lambda: pool.fetchrow(load_queries()["receipt"], call))
    else:
        row = await retrying(
            lambda: pool.fetchrow(
                load_queries()["receipt_of_identity"], call.run_id, call.workflow_id, call.step, call.ordinal
            )
        )
    return Receipt(**_plain(row)) if row else None


async def list_calls(pool: asyncpg.Pool, *, run_id: UUID | None = None, limit: int = 100) -> list[ListedCall]:
    """The newest calls first."""
    rows = await retrying(lambda: pool.fetch(load_queries()["calls_list"], run_id, limit))
    return [ListedCall(**_plain(row)) for row in rows]


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row) | {"cost_usd": _usd(row["cost_usd"])}


def _usd(value: Any) -> float | None:
    return None if value is None else float(value)
