"""`qe cost` and `qe calls`: sums over the ledger, held against the provider's own count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from gateway_process import GatewayProcess, question

from qefleet.contracts.base import Model
from qefleet.errors import UsageError
from qefleet.llm.receipts import By, Cost, costs, list_calls
from qefleet.llm.tokens import CallIdentity
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule
from worker.cli.ledger import begin_of

# gpt-4.1-mini: 0.4 and 1.6 USD per million tokens; gpt-4.1: 2 and 8.
ONE, TWO = uuid4(), uuid4()


class Spent(Model):
    """The part of a line that these tests look at."""

    name: str
    calls: int
    replayed: int
    usd: float | None
    unpriced: int
    saved: float | None

    @classmethod
    def of(cls, line: Cost) -> Spent:
        return cls(
            name=line.name,
            calls=line.calls,
            replayed=line.replayed_calls,
            usd=line.cost_usd,
            unpriced=line.unpriced_calls,
            saved=line.saved_usd,
        )


def who(run: UUID, agent: str, tier: Any, ordinal: int = 0) -> CallIdentity:
    step = f"{agent}#0/judge"
    return CallIdentity(
        run_id=run, workflow_id=f"wf-{run}", step=step, agent=agent, ordinal=ordinal, tier=tier
    )


@pytest.fixture(scope="module")
async def pool(
    postgres: ThrowAwayPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[asyncpg.Pool]:
    """A ledger in which two runs of one project have asked: five answers bought, three replayed."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    rule = Rule(reply="x", input_tokens=1_000_000, output_tokens=1_000_000)
    async with (
        ScriptedProvider() as provider,
        postgres.database() as dsn,
        GatewayProcess(dsn, provider.url, log) as gateway,
        await open_pool(dsn) as opened,
    ):
        await provider.script([rule])
        for run in (ONE, TWO):
            await opened.execute(
                "INSERT INTO runs (run_id, workflow_id, pattern, input, model, target, snapshot)"
                " VALUES ($1, $2, 'Pipeline', '{}', 'openai/gpt-4.1-mini', '/x', $3)",
                run, f"wf-{run}", {"name": "planted"},
            )  # fmt: skip
        asked = [
            (who(ONE, "test-generator", "complex"), "gpt-4.1", 3),
            (who(ONE, "test-executor", "simple"), "gpt-4.1-mini", 1),
            (who(ONE, "test-executor", "simple", 1), "made-up", 2),
            (who(TWO, "test-executor", "simple"), "gpt-4.1-mini", 1),
            (who(TWO, "lionagi", None), "gpt-4.1-mini", 1),
        ]
        for identity, model, times in asked:
            for _ in range(times):
                assert (await gateway.ask(question(model=model), who=identity)).status_code == 200
        assert len(await provider.requests()) == len(asked)
        yield opened


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (
            "run",
            [
                Spent(name=f"wf-{ONE}", calls=3, replayed=3, usd=12, unpriced=1, saved=20),
                Spent(name=f"wf-{TWO}", calls=2, replayed=0, usd=4, unpriced=0, saved=0),
            ],
        ),
        (
            "agent",
            [
                Spent(name="test-generator", calls=1, replayed=2, usd=10, unpriced=0, saved=20),
                Spent(name="test-executor", calls=3, replayed=1, usd=4, unpriced=1, saved=None),
                Spent(name="lionagi", calls=1, replayed=0, usd=2, unpriced=0, saved=0),
            ],
        ),
        (
            "model",
            [
                Spent(name="openai/gpt-4.1", calls=1, replayed=2, usd=10, unpriced=0, saved=20),
                Spent(name="openai/gpt-4.1-mini", calls=3, replayed=0, usd=6, unpriced=0, saved=0),
                Spent(name="openai/made-up", calls=1, replayed=1, usd=None, unpriced=1, saved=None),
            ],
        ),
        (
            "tier",
            [
                Spent(name="complex", calls=1, replayed=2, usd=10, unpriced=0, saved=20),
                Spent(name="simple", calls=3, replayed=1, usd=4, unpriced=1, saved=None),
                Spent(name="-", calls=1, replayed=0, usd=2, unpriced=0, saved=0),
            ],
        ),
        ("project", [Spent(name="planted", calls=5, replayed=3, usd=16, unpriced=1, saved=20)]),
    ],
)
async def test_sums_are_those_of_the_calls(pool: asyncpg.Pool, by: By, expected: list[Spent]) -> None:
    """Calls, replays, dollars and what was saved; an unknown price is in no sum, and counted."""
    assert [Spent.of(line) for line in await costs(pool, by=by)] == expected


async def test_day_is_the_databases_in_utc(pool: asyncpg.Pool) -> None:
    """And nothing is left of calls that were made before `--since`."""
    today = await pool.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
    later = datetime.now(UTC) + timedelta(hours=1)

    assert [line.name for line in await costs(pool, by="day")] == [today]
    assert await costs(pool, by="day", since=later) == []
    assert await list_calls(pool, since=later) == []


async def test_agents_line_tells_tier_and_models(pool: asyncpg.Pool) -> None:
    """Which the router chose, and what was asked by it; each call says the same."""
    lines = {line.name: (line.tiers, line.models) for line in await costs(pool, by="agent", run_id=ONE)}
    calls = {
        (call.tier, call.model, call.replays, call.saved_usd) for call in await list_calls(pool, run_id=ONE)
    }

    assert lines == {
        "test-generator": (["complex"], ["openai/gpt-4.1"]),
        "test-executor": (["simple"], ["openai/gpt-4.1-mini", "openai/made-up"]),
    }
    assert calls == {
        ("complex", "gpt-4.1", 2, 20.0),
        ("simple", "gpt-4.1-mini", 0, 0.0),
        ("simple", "made-up", 1, None),
    }


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(days=1)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_since_is_read(text: str, moment: datetime) -> None:
    """A span back from now, or a moment; one without a zone is UTC."""
    assert begin_of(text, now=NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "7", "999999d", "-3d"])
def test_since_that_is_no_moment_is_refused(text: str) -> None:
    """With examples of what is one."""
    with pytest.raises(UsageError, match="--since: should be such as"):
        begin_of(text, now=NOW)
