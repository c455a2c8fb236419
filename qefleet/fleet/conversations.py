"""Agents' conversations in Postgres: resumed by any worker in any run about the same project.

A turn is a row, written when its step is recorded. What a step goes on from is what there was when its run
opened, and is written down when the step first asks: however often it is done again, it asks the same, and
finds the answer paid.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from qefleet.llm.conversation import SUMMARISED, Turn, messages_of
from qefleet.llm.question import Message
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.fleet").joinpath("conversations.sql").read_text("utf-8"))
_MESSAGES = TypeAdapter(list[Message])


class Conversations:
    """Reads and writes what agents were asked and what they answered.

    Args:
        pool: As `open_pool` gives it.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def resume(self, run: str, step: str, *, agent: str, window: int) -> list[Message]:
        """The messages that a step's Branch goes on from: of the runs before, bounded.

        Args:
            run: The run's id.
            step: Who asks.
            agent: Whose conversation it is.
            window: How many turns are shown in full; 0 shows nothing of any.
        """
        if not window:
            return []
        pinned = await self._view(run, step)
        if pinned is None:
            turns = await self._turns(run, agent, window + SUMMARISED)
            view = json.dumps([message.model_dump() for message in messages_of(turns, window=window)])
            await retrying(lambda: self._pool.execute(_QUERIES["pin_view"], UUID(run), step, view.encode()))
            pinned = await self._view(run, step)
        assert pinned is not None, "pinned above"
        return pinned

    async def record(
        self, run: str, step: str, *, agent: str, asked: dict[str, Any], answered: dict[str, Any]
    ) -> None:
        """Add a turn; again changes nothing."""
        # ASCII: models write lone surrogates, which have no other spelling.
        rows = [json.dumps(value).encode() for value in (asked, answered)]

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_QUERIES["lock_conversation"], UUID(run), agent)
                await connection.execute(_QUERIES["record_turn"], UUID(run), step, agent, *rows)

        await retrying(write)

    async def _view(self, run: str, step: str) -> list[Message] | None:
        found = await retrying(lambda: self._pool.fetchval(_QUERIES["conversation_view"], UUID(run), step))
        # The standard library's parser: Pydantic's refuses lone surrogates.
        return None if found is None else _MESSAGES.validate_python(json.loads(found))

    async def _turns(self, run: str, agent: str, count: int) -> list[Turn]:
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["turns_before"], UUID(run), agent, count))
        return [
            Turn(
                number=row["turn"],
                asked=json.loads(row["asked"]),
                answered=json.loads(row["answered"]),
                came_of_it=_came_of(row),
            )
            for row in reversed(rows)
        ]


def _came_of(row: asyncpg.Record) -> str:
    if not row["ended"]:
        return "the run had not ended"
    ended = f"the run ended with {row['decision'] or 'no gate'}"
    return (
        f"{ended}; not completed: {', '.join(row['failed'])}" if row["failed"] else f"{ended}; all completed"
    )
