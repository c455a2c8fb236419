"""What nodes gave and said, in Postgres: written once by the step that it belongs to, however often it runs.

Raw JSON bytes: models write characters that `jsonb` refuses, and its objects forget the order of their keys,
which later prompts show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast
from uuid import UUID

import asyncpg

from qefleet.contracts.operations import Said
from qefleet.errors import GraphError
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.graphs").joinpath("store.sql").read_text("utf-8"))


class GraphStore:
    """Reads and writes the results and messages of operations.

    Args:
        pool: As `open_pool` gives it.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def results(self, run: UUID, steps: Sequence[str]) -> dict[str, Any]:
        """Results by step, of those that have one."""
        return await self._by_step("operation_results", run, steps)

    async def contexts(self, run: UUID, steps: Sequence[str]) -> list[Any]:
        """What those of the steps that add to the flow's context add, in the order of `steps`."""
        found = await self._by_step("operation_contexts", run, steps)
        return [found[step]["context"] for step in steps if step in found]

    async def messages(self, run: UUID, steps: Sequence[str]) -> list[Said]:
        """What the steps said, in their order."""
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["messages_of"], run, list(steps)))
        by_step: dict[str, list[Said]] = {}
        for row in rows:
            said = Said(role=row["role"], content=json.loads(row["content"]))
            by_step.setdefault(row["step"], []).append(said)
        return [said for step in steps for said in by_step.get(step, [])]

    async def record(
        self, run: UUID, step: str, *, branch: str, result: Any, messages: Sequence[Said]
    ) -> Any:
        """Write down what a step gave and said; the first that is written stands.

        Returns:
            The result that stands.
        """
        adds_context = isinstance(result, dict) and "context" in result
        content = encode(cast("object", result))

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                query = _QUERIES["record_operation"]
                if await connection.fetchval(query, run, step, branch, content, adds_context):
                    rows = [
                        (run, step, position, said.role, encode(said.content))
                        for position, said in enumerate(messages)
                    ]
                    await connection.executemany(_QUERIES["record_message"], rows)

        await retrying(write)
        return (await self.results(run, [step]))[step]

    async def take_over(self, run: UUID, step: str, *, branch: str, from_run: UUID, from_step: str) -> Any:
        """Write down what a step of another run gave and said as this step's own.

        Raises:
            GraphError: There is no such step in this database.
        """

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                query = _QUERIES["take_operation"]
                if await connection.fetchval(query, run, step, branch, from_run, from_step):
                    await connection.execute(_QUERIES["take_messages"], run, step, from_run, from_step)

        await retrying(write)
        found = await self.results(run, [step])
        if step not in found:
            raise GraphError(
                step,
                f"step {from_step} of run {from_run} isn't in this database: was it run with another one?",
            )
        return found[step]

    async def _by_step(self, query: str, run: UUID, steps: Sequence[str]) -> dict[str, Any]:
        rows = await retrying(lambda: self._pool.fetch(_QUERIES[query], run, list(steps)))
        return {row["step"]: json.loads(row["result"]) for row in rows}


def encode(value: Any) -> bytes:
    """JSON as bytes, in ASCII: half a surrogate pair has no other spelling."""
    return json.dumps(value, allow_nan=False).encode()
