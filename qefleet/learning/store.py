"""Choices and rewards in Postgres: each made and counted once, however often its activity is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.resources import files
from itertools import zip_longest
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from pydantic import Field

from qefleet.contracts.base import Model
from qefleet.contracts.generation import KeptTest
from qefleet.contracts.learning import Alternative, Choice, Features, Gains, Order, Policy, Strategy, Tier
from qefleet.contracts.steps import RewardStrategy
from qefleet.learning.offer import (
    AGAIN,
    DEPTH_CONSTANTS,
    STOP,
    Offer,
    offer_depth,
    offer_order,
    offer_strategy,
    offer_tier,
)
from qefleet.learning.patterns import Pattern, distil, recall
from qefleet.learning.reward import effort, reward, shares
from qefleet.learning.values import (
    CONSTANTS,
    Constants,
    Estimate,
    bandit_update,
    choose,
    expected,
    q_update,
    seed_of,
)
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.learning").joinpath("learning.sql").read_text("utf-8"))
_LOOKED_THROUGH = 200
_MOST_PATTERNS = 500
"""Of a project; those that have helped least go first."""


@dataclass(frozen=True, kw_only=True)
class Decider:
    """Whose decision it is, and by what it is made."""

    run: str
    step: str
    item: str = ""
    """Empty: it is about the whole step."""
    position: int = -1
    """Of the item among the step's."""
    agent: str
    """Whose values are asked."""
    policy: Policy = Policy.LEARNED
    seed: int | None = None
    """What chance is drawn from; None takes the run's id."""

    @property
    def key(self) -> tuple[UUID, str, str]:
        """Of its rows."""
        return UUID(self.run), self.step, self.item


class LearningStore:
    """What the fleet learns and recalls.

    Args:
        pool: As `open_pool` gives it.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def choose(
        self, who: Decider, features: Features, *, tiers: Sequence[Tier] = (), pynguin: bool = False
    ) -> Choice:
        """Choose how an item is worked on.

        Args:
            who: Whose choice it is.
            features: The state.
            tiers: To choose from where a model is asked, the agent's own first.
            pynguin: Pynguin is there for the target.
        """
        known = await self._patterns(who.agent, await self._project(who.run))
        recalled = recall([(i, p, s) for i, p, s in known if p.target != who.item], features, who.item)
        offer = offer_strategy(features, recalls=bool(recalled), pynguin=pynguin)
        strategy = Strategy(await self._decide(who, offer, features, recalled=recalled))
        tier: str | None = None
        if who.policy is Policy.LEARNED and strategy.uses_model and len(tiers) > 1:
            tier = (await self._decide(who, offer_tier(features, tiers), features)).removeprefix("tier:")
        return Choice.model_validate({"strategy": strategy, "uses_model": strategy.uses_model, "tier": tier})

    async def choose_depth(
        self, who: Decider, features: Features, *, number: int, kept: int, gains: Gains
    ) -> bool:
        """Choose whether an item gets another round.

        Args:
            who: Whose choice it is.
            features: Of the item.
            number: Of the round that would come next.
            kept: Tests that were kept so far.
            gains: What the rounds before gave and took.
        """
        offer = offer_depth(features, number=number, kept=kept)
        return await self._decide(who, offer, features, so_far=reward(gains)) == AGAIN

    async def choose_order(self, who: Decider, model: str, *, issues: bool) -> Order:
        """Choose what a step works on first.

        Args:
            who: Whose choice it is.
            model: Its kind, as in `Features`.
            issues: Agents before it have found some.
        """
        return Order(await self._decide(who, offer_order(model, issues=issues)))

    async def recalled(self, run: str, step: str, item: str) -> str:
        """Text of the patterns that an item's choice recalls; empty where it recalls none."""
        row = await self._fetchrow("find_choice", UUID(run), step, item, "strategy")
        ids: list[str] = row["recalled"] if row else []
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["patterns_by_id"], ids))
        texts = {found["pattern_id"]: Pattern.model_validate(found["content"]).text for found in rows}
        return "\n\n\n".join(texts[pattern_id] for pattern_id in ids if pattern_id in texts)

    async def reward(self, request: RewardStrategy, gains: Gains, lessons: Sequence[KeptTest]) -> float:
        """Reward an item's choices, learn from it and keep what it taught, in one transaction, once.

        Args:
            request: Whose reward it is.
            gains: What was measured.
            lessons: Tests that were kept for it.

        Returns:
            The reward that stands: the first one.
        """
        key = (UUID(request.run), request.step, request.item)

        async def write() -> float:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_QUERIES["lock_choices"], *key)
                decided = {row["decision"]: row for row in rows}
                choice = decided["strategy"]
                if choice["reward"] is not None:
                    return choice["reward"]
                spent = gains + effort(Strategy(choice["action"]))
                found = reward(spent)
                for row in (decided[name] for name in ("strategy", "tier") if name in decided):
                    await _learn(connection, row, found, bandit_update)
                await _learn_depth(connection, [r for r in rows if r["decision"].startswith("depth")], found)
                await connection.execute(
                    _QUERIES["enter_trajectory"],
                    *key[:2],
                    choice["ordinal"],
                    choice["agent"],
                    choice["state"],
                    choice["action"],
                    found,
                    {"item": request.item, "gains": spent.model_dump(), "shares": shares(spent)},
                )
                await _teach(connection, choice, request, gains, lessons)
                return found

        return await retrying(write)

    async def reward_order(self, run: str, step: str) -> None:
        """Reward a step's order, if it was chosen, by the mean of its items' rewards, once."""
        key = (UUID(run), step, "")

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_QUERIES["lock_choices"], *key)
                found: float | None = await connection.fetchval(_QUERIES["mean_reward_of_items"], *key[:2])
                if rows and rows[0]["reward"] is None and found is not None:
                    await _learn(connection, rows[0], found, bandit_update)

        await retrying(write)

    async def export(self) -> Learnt:
        """All values and patterns."""
        values = await retrying(lambda: self._pool.fetch(_QUERIES["export_values"]))
        patterns = await retrying(lambda: self._pool.fetch(_QUERIES["export_patterns"]))
        return Learnt(
            q_values=[PortableValue.model_validate(dict(row)) for row in values],
            patterns=[PortablePattern.model_validate(dict(row)) for row in patterns],
        )

    async def import_(self, learnt: Learnt) -> None:
        """Take over what another database has learnt; doing it again changes nothing."""

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                for value in learnt.q_values:
                    await connection.execute(_QUERIES["import_value"], *value.model_dump().values())
                for pattern in learnt.patterns:
                    await connection.execute(_QUERIES["import_pattern"], *pattern.row)

        await retrying(write)

    async def _decide(
        self,
        who: Decider,
        offer: Offer,
        features: Features | None = None,
        *,
        recalled: Sequence[str] = (),
        so_far: float | None = None,
    ) -> str:
        """Make a decision and write it down with its reasons; the first one stands."""
        model = offer.state.rpartition("/")[2]
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["values_of_model"], who.agent, f"%/{model}"))
        table = {(row["state_key"], row["action"]): Estimate(row["value"], row["visits"]) for row in rows}
        estimates = expected(table, offer.state, list(offer.actions), offer.constants)
        if STOP in estimates:  # what stopping gives is known
            estimates[STOP] = Estimate(0.0, max(1, estimates[AGAIN].visits))
        rewards: int = await self._fetchval("rewards_of_agent", who.agent, list(offer.actions))
        project = await self._project(who.run)
        epsilon = offer.constants.exploring(rewards)
        if who.policy.strategy:
            action, reason = who.policy.strategy.value, "fixed"
        else:
            origin = who.run if who.seed is None else who.seed
            draw = seed_of(origin, who.step, who.item, offer.decision)
            chosen = choose(estimates, epsilon=epsilon, seed=draw)
            action, reason = chosen.action, chosen.reason
        await retrying(
            lambda: self._pool.execute(
                _QUERIES["make_choice"],
                *who.key,
                offer.decision,
                who.position + 1,
                who.agent,
                project,
                who.policy,
                offer.state,
                features.model_dump(mode="json") if features else {},
                action,
                reason,
                [
                    Alternative(action=name, value=e.value, visits=e.visits).model_dump()
                    for name, e in estimates.items()
                ],
                epsilon,
                rewards,
                recalled if action == Strategy.RECALLED else [],
                so_far,
            )
        )
        stands = await self._fetchrow("find_choice", *who.key, offer.decision)
        assert stands is not None, "it was written a moment ago"
        return stands["action"]

    async def _patterns(self, agent: str, project: str) -> list[tuple[str, Pattern, float]]:
        rows = await retrying(
            lambda: self._pool.fetch(_QUERIES["patterns_of_project"], agent, project, _LOOKED_THROUGH)
        )
        return [(row["pattern_id"], Pattern.model_validate(row["content"]), row["score"]) for row in rows]

    async def _project(self, run: str) -> str:
        return await self._fetchval("project_of_run", UUID(run)) or ""

    async def _fetchrow(self, name: str, *values: object) -> asyncpg.Record | None:
        return await retrying(lambda: self._pool.fetchrow(_QUERIES[name], *values))

    async def _fetchval(self, name: str, *values: object) -> Any:
        return await retrying(lambda: self._pool.fetchval(_QUERIES[name], *values))


class PortableValue(Model):
    """A learnt value, outside of a database."""

    agent: str
    state_key: str
    action: str
    value: Annotated[float, Field(allow_inf_nan=False)]
    visits: Annotated[int, Field(ge=0)]


class PortablePattern(Model):
    """A pattern, outside of a database."""

    pattern_id: str
    agent: str
    project: str
    name: str
    description: str
    content: Pattern
    score: Annotated[float, Field(ge=0, le=1)]
    uses: Annotated[int, Field(ge=0)]
    successes: Annotated[int, Field(ge=0)]
    retired_at: datetime | None = None

    @property
    def row(self) -> list[object]:
        """In the order of the table's columns; its id is computed, whatever the file says."""
        values = self.model_dump() | {
            "pattern_id": self.content.id_for(self.agent, self.project),
            "content": self.content.model_dump(mode="json"),
        }
        return list(values.values())


class Learnt(Model):
    """What `qe learning export` writes and `import` reads."""

    q_values: list[PortableValue] = []
    patterns: list[PortablePattern] = []


async def _learn(
    connection: Any,
    row: asyncpg.Record,
    found: float,
    update: Callable[[Estimate, float], Estimate],
    constants: Constants = CONSTANTS,
) -> None:
    """Move the value of what was chosen, and write down by how much."""
    cell = (row["agent"], row["state_key"], row["action"])
    await connection.execute(_QUERIES["enter_value"], *cell, constants.initial)
    known = await connection.fetchrow(_QUERIES["lock_value"], *cell)
    assert known is not None, "it was entered above"
    after = update(Estimate(known["value"], known["visits"]), found)
    await connection.execute(_QUERIES["move_value"], *cell, after.value, after.visits)
    await _mark(connection, row, found, known["value"], after.value)


async def _mark(connection: Any, row: asyncpg.Record, found: float, before: float, after: float) -> None:
    key = (row["run_id"], row["step"], row["item"], row["decision"])
    await connection.execute(_QUERIES["reward_choice"], *key, found, before, after)


async def _learn_depth(connection: Any, rounds: Sequence[asyncpg.Record], found: float) -> None:
    """Q-learning over an item's rounds: each is worth what it added, and what may come after it.

    Args:
        connection: In a transaction.
        rounds: Whether to go on, in their order; stopping is worth nothing, and teaches nothing.
        found: The item's reward, which is what its last round led to.
    """
    for row, following in zip_longest(rounds, rounds[1:]):
        if row["action"] == STOP:
            await _mark(connection, row, 0.0, 0.0, 0.0)
            continue
        end, next_best = found, 0.0
        if following:
            end = following["reward_so_far"]
            cell = (row["agent"], following["state_key"], AGAIN)
            known = await connection.fetchrow(_QUERIES["lock_value"], *cell)
            next_best = max(0.0, known["value"]) if known and known["visits"] else 0.0
        update = partial(q_update, next_best=next_best)
        await _learn(connection, row, end - row["reward_so_far"], update, DEPTH_CONSTANTS)


async def _teach(
    connection: Any,
    choice: asyncpg.Record,
    request: RewardStrategy,
    gains: Gains,
    lessons: Sequence[KeptTest],
) -> None:
    """Count what was recalled as used, and keep what was kept as patterns of the project."""
    agent, project = choice["agent"], choice["project"]
    if choice["recalled"]:
        await connection.execute(_QUERIES["use_patterns"], choice["recalled"], int(gains.kept > 0))
    features = Features.model_validate(choice["state"])
    for test in lessons:
        pattern = distil(test, features)
        await connection.execute(
            _QUERIES["keep_pattern"],
            pattern.id_for(agent, project),
            agent,
            project,
            test.name,
            f"{features.key} by {choice['action']}",
            pattern.model_dump(mode="json"),
            0.5,
            UUID(request.run),
            request.step,
        )
    if lessons:
        await connection.execute(_QUERIES["trim_patterns"], agent, project, _MOST_PATTERNS)
