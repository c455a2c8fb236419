"""The ledger of model calls: who is making a call, what came of it, and every answer that was ever paid for.

A call is claimed by a lease, so that of any number of gateways one sends it; a claim whose lease has run out
is taken over. Answers are kept as raw bytes, before anyone parses them; the first one stays. Each operation
may be repeated after a broken connection without doing anything twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import asyncpg

from qefleet.llm.budgets import Budget, OverBudget, ProjectBudget
from qefleet.llm.metering import Tokens
from qefleet.llm.tokens import CallIdentity
from qefleet.sql.database import retrying
from qefleet.sql.queries import load_queries

LEASE_S = 30.0
KEEP_ANSWER_S = 600.0
"""How long a paid answer waits for a Postgres that is away."""


@dataclass(frozen=True)
class Call:
    """One logical call, as it is entered."""

    identity: CallIdentity
    provider: str
    model: str
    path: str
    body: bytes
    request: Mapping[str, Any]
    """The body, parsed."""

    @property
    def request_digest(self) -> str:
        """Of what is asked and of whom, however the JSON was spelt."""
        canonical = json.dumps(self.request, sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(b"\0".join([self.provider.encode(), self.path.encode(), canonical])).hexdigest()

    @property
    def key(self) -> str:
        """What makes it the same call: who asks at which point of which workflow, and what."""
        who = self.identity
        parts = [who.workflow_id, str(who.run_id), who.step, who.ordinal, self.request_digest]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """A provider's 2xx response, raw."""

    status: int
    headers: dict[str, str]
    body: bytes
    cost_usd: Decimal | None


@dataclass(frozen=True)
class Metered:
    """What an answer took."""

    tokens: Tokens | None
    cost_usd: Decimal | None
    """Null when the price isn't known."""
    priced: bool
    """False where the cost is no more than a bound, since the provider told no tokens."""


@dataclass(frozen=True)
class Claimed:
    """The call is this attempt's to send."""


@dataclass(frozen=True)
class Wait:
    """Somebody else is sending it, or a budget lets no more calls run at once."""


@dataclass(frozen=True)
class Unknown:
    """An earlier attempt ended without a word, and nobody is to pay a second time."""


@dataclass(frozen=True)
class Unpriced:
    """There is a budget, and the model has no price."""


Claim = Answer | Claimed | Wait | Unknown | OverBudget | Unpriced


class Ledger:
    """The gateway's side of the ledger.

    Args:
        pool: As `open_pool` makes it.
        on_unknown: What to do about a call whose last attempt ended unseen: send it again, or fail it.
        lease_s: Seconds after which a silent gateway's claim is void.
        project_budget: What each project may spend, if anything limits it.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        on_unknown: Literal["resend", "fail"] = "resend",
        lease_s: float = LEASE_S,
        project_budget: ProjectBudget | None = None,
    ) -> None:
        self.lease_s = lease_s
        self._project_budget = project_budget
        self._pool = pool
        self._on_unknown = on_unknown
        self._sql = load_queries()

    async def replay(self, key: str) -> Answer | None:
        """The stored answer, counted as served again."""
        row = await retrying(lambda: self._pool.fetchrow(self._sql["call_replay"], key))
        return _answer(row) if row else None

    async def state(self, key: str) -> Literal["open", "leased", "answered"]:
        """How a call stands; `leased` while somebody is surely at work on it."""
        row = await retrying(lambda: self._pool.fetchrow(self._sql["call_state"], key))
        if row is None or (row["state"] == "claimed" and not row["leased"]):
            return "open"
        return "leased" if row["state"] == "claimed" else row["state"]

    async def claim(self, call: Call, attempt: UUID, *, bound: Decimal | None, has_price: bool) -> Claim:
        """Try to make the call this attempt's.

        Args:
            call: The call.
            attempt: A fresh id; with the same one again, a claim that was won stays won.
            bound: The most that the call can cost in USD; None where nothing bounds it.
            has_price: Whether its cost will be known.
        """

        async def work(connection: asyncpg.Connection) -> Claim:
            who = call.identity
            await connection.execute(
                self._sql["call_enter"], call.key, who.run_id, who.workflow_id, who.step, who.agent,
                who.ordinal, call.request_digest, call.provider, call.model, call.body, who.tier,
            )  # fmt: skip
            row = await connection.fetchrow(self._sql["call_lock"], call.key)
            assert row is not None, "entered above, in this transaction"
            if row["lease_owner"] == attempt and row["state"] == "claimed":
                return Claimed()
            if row["state"] == "answered":
                found = await connection.fetchrow(self._sql["call_replay"], call.key)
                assert found is not None, "locked as answered"
                return _answer(found)
            if row["state"] == "claimed" and row["leased"]:
                return Wait()
            if row["state"] == "claimed" and self._on_unknown == "fail":
                return Unknown()
            refusal = await self._over_budget(connection, who, bound, has_price=has_price)
            if refusal is not None:
                return refusal
            await connection.execute(self._sql["attempts_lose"], call.key)
            await connection.execute(self._sql["call_take"], call.key, attempt, self.lease_s, bound)
            await connection.execute(self._sql["attempt_enter"], attempt, call.key, who.run_id)
            return Claimed()

        return await self._transaction(work)

    async def renew(self, key: str, attempt: UUID) -> None:
        """Keep a claim for another lease."""
        await retrying(
            lambda: self._pool.execute(self._sql["call_renew"], key, attempt, self.lease_s),
            total_s=self.lease_s,
        )

    async def answer(self, key: str, attempt: UUID, answer: Answer, metered: Metered) -> Answer:
        """Keep an answer, insisting for ten minutes: it is paid.

        Returns:
            The answer that stands: this one, or the one that another attempt kept before.
        """
        tokens = metered.tokens

        async def work(connection: asyncpg.Connection) -> Answer:
            won = await connection.fetchrow(
                self._sql["call_answer"], key, answer.status, answer.headers, answer.body,
                tokens and tokens.input, tokens and tokens.output, metered.cost_usd, metered.priced,
            )  # fmt: skip
            await connection.execute(
                self._sql["attempt_answered"], attempt, "answered" if won else "duplicate", answer.status,
                tokens and tokens.input, tokens and tokens.output, metered.cost_usd,
            )  # fmt: skip
            if won:
                return answer
            kept = await connection.fetchrow(self._sql["call_answer_kept"], key)
            assert kept is not None, "the call was entered before it was sent"
            return _answer(kept)

        return await self._transaction(work, total_s=KEEP_ANSWER_S)

    async def fail(
        self,
        key: str,
        attempt: UUID,
        *,
        outcome: Literal["failed", "lost"],
        error: str,
        status: int | None = None,
        response: bytes | None = None,
    ) -> None:
        """Close an attempt without an answer and give the claim back.

        Args:
            key: The call.
            attempt: The attempt that held it.
            outcome: `failed` when it was surely not paid, `lost` when nobody knows.
            error: One line, without secrets.
            status: The provider's, when there was a response.
            response: What it said, raw.
        """

        async def work(connection: asyncpg.Connection) -> None:
            # In the order in which `claim` locks these rows.
            await connection.execute(self._sql["call_release"], key, attempt, outcome == "failed")
            await connection.execute(self._sql["attempt_failed"], attempt, outcome, status, error, response)

        await self._transaction(work)

    async def ping(self) -> None:
        """Raise `StoreUnavailable` unless Postgres answers soon."""
        await retrying(lambda: self._pool.fetchval("SELECT 1", timeout=2), total_s=2)

    async def _over_budget(
        self, connection: asyncpg.Connection, who: CallIdentity, bound: Decimal | None, *, has_price: bool
    ) -> OverBudget | Unpriced | Wait | None:
        """Whether one more call may go over a budget: with others in flight it must surely not."""
        budgets = await self._budgets(connection, who)
        if not budgets:
            return None
        if not has_price:
            return Unpriced()
        waits = False
        for budget in budgets:
            row = await self._spending(connection, who, budget)
            if row["spent"] >= budget.usd:
                return OverBudget(budget, spent=row["spent"])
            fits = (
                bound is not None
                and row["reserved"] is not None
                and row["spent"] + row["reserved"] + bound <= budget.usd
            )
            waits = waits or (row["in_flight"] > 0 and not fits)
        return Wait() if waits else None

    async def _budgets(self, connection: asyncpg.Connection, who: CallIdentity) -> list[Budget]:
        """What limits a call. Each is locked, always in this order: calls under it are admitted singly."""
        row = await connection.fetchrow(self._sql["budgets"], who.run_id, who.step)
        if row is None:
            return []
        found: list[Budget] = []
        if row["run_usd"] is not None:
            found.append(Budget("run", "", row["run_usd"]))
        if row["agent_usd"] is not None:
            found.append(Budget("agent", who.step.partition("/")[0], row["agent_usd"]))
        if found:
            await connection.execute(self._sql["run_lock"], who.run_id)
        if whole := self._project_budget:
            found.append(Budget("project", row["project"], whole.usd, whole.period))
            await connection.execute(self._sql["project_lock"], row["project"])
        return found

    async def _spending(
        self, connection: asyncpg.Connection, who: CallIdentity, budget: Budget
    ) -> asyncpg.Record:
        match budget.scope:
            case "run":
                values = (who.run_id,)
            case "agent":
                values = (who.run_id, budget.name)
            case "project":
                values = (budget.name, budget.period)
        row = await connection.fetchrow(self._sql[f"{budget.scope}_spending"], *values)
        assert row is not None, "an aggregate has a row"
        return row

    async def _transaction(
        self, work: Callable[[asyncpg.Connection], Awaitable[Any]], *, total_s: float = 60
    ) -> Any:
        async def once() -> Any:
            async with self._pool.acquire() as connection, connection.transaction():
                return await work(connection)

        return await retrying(once, total_s=total_s)


def _answer(row: asyncpg.Record) -> Answer:
    return Answer(
        status=row["response_status"],
        headers=row["response_headers"],
        body=row["response"],
        cost_usd=row["cost_usd"],
    )
