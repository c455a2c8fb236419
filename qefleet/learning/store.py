"""Choices and rewards in Postgres: each made and counted once, however often its activity is run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from pydantic import Field

from qefleet.contracts.base import Model
from qefleet.contracts.generation import KeptTest
from qefleet.contracts.learning import Alternative, Choice, Features, Gains, Policy, Strategy
from qefleet.contracts.steps import ChooseStrategy, RewardStrategy
from qefleet.learning.offer import offered
from qefleet.learning.patterns import Pattern, distil, recall
from qefleet.learning.reward import reward, shares
from qefleet.learning.values import (
    CONSTANTS,
    Constants,
    Estimate,
    bandit_update,
    choose,
    expected,
    seed_of,
    unknown,
)
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.learning").joinpath("learning.sql").read_text("utf-8"))
_LOOKED_THROUGH = 200
_MOST_PATTERNS = 500
"""Of a project; those that have helped least go first."""


class LearningStore:
    """What the fleet learns and recalls.

    Args:
        pool: As `open_pool` gives it.
        constants: How fast is learnt, and how much is left to chance.
    """

    def __init__(self, pool: asyncpg.Pool, *, constants: Constants = CONSTANTS) -> None:
        self._pool = pool
        self._constants = constants

    async def chosen(self, request: ChooseStrategy | RewardStrategy) -> Choice | None:
        """The choice that stands for an item."""
        row = await self._fetchrow("find_choice", UUID(request.run), request.step, request.item)
        if row is None:
            return None
        strategy = Strategy(row["strategy"])
        return Choice(strategy=strategy, uses_model=strategy.uses_model, reason=row["reason"])

    async def choose(
        self,
        request: ChooseStrategy,
        features: Features,
        *,
        agent: str,
        policy: Policy,
        seed: int | None,
    ) -> Choice:
        """Choose an item's strategy and write it down with its reasons; the first choice stands.

        Args:
            request: Whose choice it is.
            features: The state.
            agent: Whose values are asked.
            policy: `learned`, or the strategy to follow.
            seed: What chance is drawn from; None takes the run's id.
        """
        project = await self._project(request.run)
        known = await self._patterns(agent, project)
        recalled = recall(
            [(i, p, s) for i, p, s in known if p.target != request.item], features, request.item
        )
        options = offered(uses_model=features.model != "none", recalls=bool(recalled))
        estimates = await self._estimates(agent, features, options)
        rewards: int = await self._fetchval("rewards_of_agent", agent)
        epsilon = self._constants.exploring(rewards)
        if policy.strategy:
            strategy, reason = policy.strategy, "fixed"
        else:
            origin = request.run if seed is None else seed
            draw = seed_of(origin, request.step, request.item)
            found = choose(estimates, epsilon=epsilon, seed=draw)
            strategy, reason = Strategy(found.action), found.reason
        await retrying(
            lambda: self._pool.execute(
                _QUERIES["make_choice"],
                UUID(request.run),
                request.step,
                request.item,
                request.position + 1,
                agent,
                project,
                policy,
                features.key,
                features.model_dump(mode="json"),
                strategy,
                reason,
                [
                    Alternative(strategy=Strategy(name), value=e.value, visits=e.visits).model_dump()
                    for name, e in estimates.items()
                ],
                epsilon,
                rewards,
                recalled if strategy is Strategy.RECALLED else [],
            )
        )
        stands = await self.chosen(request)
        assert stands is not None, "it was written a moment ago"
        return stands

    async def recalled(self, run: str, step: str, item: str) -> str:
        """Text of the patterns that an item's choice recalls; empty where it recalls none."""
        row = await self._fetchrow("find_choice", UUID(run), step, item)
        ids: list[str] = row["recalled"] if row else []
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["patterns_by_id"], ids))
        texts = {found["pattern_id"]: Pattern.model_validate(found["content"]).text for found in rows}
        return "\n\n\n".join(texts[pattern_id] for pattern_id in ids if pattern_id in texts)

    async def reward(self, request: RewardStrategy, gains: Gains, lessons: Sequence[KeptTest]) -> float:
        """Reward an item's choice, learn from it and keep what it taught, in one transaction, once.

        Args:
            request: Whose reward it is.
            gains: What was measured.
            lessons: Tests that were kept for it.

        Returns:
            The reward that stands: the first one.
        """
        key = (UUID(request.run), request.step, request.item)
        found = reward(gains)

        async def write() -> float:
            async with self._pool.acquire() as connection, connection.transaction():
                choice = await connection.fetchrow(_QUERIES["lock_choice"], *key)
                assert choice is not None, "an item is rewarded after its choice"
                if choice["reward"] is not None:
                    return choice["reward"]
                cell = (choice["agent"], choice["state_key"], choice["strategy"])
                before = unknown(self._constants)
                await connection.execute(_QUERIES["enter_value"], *cell, before.value)
                row = await connection.fetchrow(_QUERIES["lock_value"], *cell)
                assert row is not None, "it was entered above"
                before = Estimate(row["value"], row["visits"])
                after = bandit_update(before, found, self._constants)
                await connection.execute(_QUERIES["move_value"], *cell, after.value, after.visits)
                await connection.execute(
                    _QUERIES["enter_trajectory"],
                    key[0],
                    request.step,
                    choice["ordinal"],
                    choice["agent"],
                    choice["state"],
                    choice["strategy"],
                    found,
                    {"item": request.item, "gains": gains.model_dump(), "shares": shares(gains)},
                )
                await connection.execute(_QUERIES["reward_choice"], *key, found, before.value, after.value)
                await _teach(connection, choice, request, gains, lessons)
                return found

        return await retrying(write)

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

    async def _estimates(
        self, agent: str, features: Features, options: Sequence[Strategy]
    ) -> dict[str, Estimate]:
        rows = await retrying(
            lambda: self._pool.fetch(_QUERIES["values_of_model"], agent, f"%/{features.model}")
        )
        table = {(row["state_key"], row["action"]): Estimate(row["value"], row["visits"]) for row in rows}
        return expected(table, features.key, [option.value for option in options], self._constants)

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
            f"{features.key} by {choice['strategy']}",
            pattern.model_dump(mode="json"),
            0.5,
            UUID(request.run),
            request.step,
        )
    if lessons:
        await connection.execute(_QUERIES["trim_patterns"], agent, project, _MOST_PATTERNS)
