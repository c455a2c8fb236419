"""What runs, steps and calls asked of models, read from the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg

from qefleet.contracts.base import Model
from qefleet.contracts.learning import Tier
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
    tier: Tier | None
    """How demanding the agent's questions are: what the router chose the model by."""
    saved_usd: float | None
    """What the replays would have cost."""
    priced: bool
    """False where the cost is unknown, or no more than a bound."""
    created_at: datetime
    answered_at: datetime | None
    last_error: str | None


By = Literal["run", "agent", "model", "tier", "project", "day"]


class Cost(Model):
    """One line of `qe cost`: what calls that have something in common took."""

    name: str
    """A workflow id, agent, `provider/model`, tier, project or day (UTC, when the call was first made)."""
    run_id: UUID | None = None
    """Of a run."""
    calls: int
    """Answers bought, also those that came twice."""
    replayed_calls: int
    """Answers taken from the ledger."""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """Of those with a known price; null where none has one."""
    unpriced_calls: int
    """Answers bought whose price nobody knows: `cost_usd` is without them."""
    lost_attempts: int
    """Requests whose end a crash hid: they may have been paid, and are in no sum."""
    saved_usd: float | None
    """What the replayed answers would have cost; null where none has a known price."""
    models: list[str]
    tiers: list[str]


async def costs(
    pool: asyncpg.Pool, *, by: By, run_id: UUID | None = None, since: datetime | None = None
) -> list[Cost]:
    """What was spent, the most expensive first; days are newest first.

    Args:
        pool: As `open_pool` gives it.
        by: What calls are summed by.
        run_id: Of one run only.
        since: Of calls first made then or later.
    """
    rows = await retrying(lambda: pool.fetch(load_queries()["costs"], by, run_id, since))
    return [Cost(**_plain(row)) for row in rows]


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


async def list_calls(
    pool: asyncpg.Pool, *, run_id: UUID | None = None, since: datetime | None = None, limit: int = 100
) -> list[ListedCall]:
    """The newest calls first."""
    rows = await retrying(lambda: pool.fetch(load_queries()["calls_list"], run_id, limit, since))
    return [ListedCall(**_plain(row)) for row in rows]


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    return {name: _usd(value) if name.endswith("_usd") else value for name, value in row.items()}


def _usd(value: Any) -> float | None:
    return None if value is None else float(value)
