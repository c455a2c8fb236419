"""What a step's model is shown of its project's memory: written down when the step begins, once.

However often the step is done again, and whatever is remembered meanwhile, it asks the same, and finds the
answer paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg

from qefleet.llm.question import Question
from qefleet.memory.globs import like_pattern
from qefleet.memory.protocol import PARTITION
from qefleet.memory.shown import BYTES_PER_TOKEN, ENTRY_TOKENS, Remembered, ShownMemory, shown_memory
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

LOOKED_AT = 100
"""Entries, the newest ones."""

_SQL = parse_queries(files("qefleet.fleet").joinpath("shown_memory.sql").read_text("utf-8"))


class MemoryViews:
    """Chooses what steps' models are shown, and knows it afterwards.

    Args:
        pool: As `open_pool` gives it.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def pin(self, run: str, step: str, *, project: str, reads: Sequence[str]) -> ShownMemory:
        """Choose what is shown, unless that was done before.

        Args:
            run: The run's id.
            step: As planned: the items of an expansion are shown the same.
            project: Whose memory it is.
            reads: Globs of whole keys.
        """
        if (pinned := await self.of(run, step)) is not None:
            return pinned
        patterns = [like_pattern(glob) for glob in reads]
        values = (project, PARTITION, patterns, ENTRY_TOKENS * BYTES_PER_TOKEN, LOOKED_AT)
        rows = await retrying(lambda: self._pool.fetch(_SQL["newest_entries"], *values))
        shown = shown_memory([Remembered(**row) for row in rows])
        content = shown.model_dump_json().encode()
        await retrying(lambda: self._pool.execute(_SQL["pin_memory"], UUID(run), step, content))
        pinned = await self.of(run, step)
        assert pinned is not None, "pinned above"
        return pinned

    async def of(self, run: str, step: str) -> ShownMemory | None:
        """What a step is shown; None where nothing was chosen."""
        found = await retrying(lambda: self._pool.fetchval(_SQL["memory_view"], UUID(run), step))
        return None if found is None else ShownMemory.model_validate_json(found)


def with_memory(question: Question[Any], shown: ShownMemory | None) -> Question[Any]:
    """The question with memory before its other data; unchanged where there is none."""
    if shown is None or not shown.entries:
        return question
    data = {"data": question.context} if isinstance(question.context, str) else question.context
    more = f", {shown.left_out} more left out" if shown.left_out else ""
    name = f"what people and earlier runs left in memory about this project, newest first{more}"
    return replace(question, context={name: shown.text, **data})


def note_of(shown: ShownMemory | None) -> list[str]:
    """What a result says of it."""
    if shown is None or not (shown.entries or shown.left_out):
        return []
    left_out = f"; {shown.left_out} had no room" if shown.left_out else ""
    return [f"memory for its model: {shown.entries} shown, about {shown.tokens} tokens{left_out}"]
