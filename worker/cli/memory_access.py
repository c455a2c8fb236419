"""Whose memory a command means: one project's, or that of each which the database's role may see."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from qefleet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from qefleet.memory.postgres import PostgresMemory
    from worker.settings import Settings

T = TypeVar("T")


def in_memory(project: str, work: Callable[[PostgresMemory], Awaitable[T]]) -> T:
    """Do something in one project's memory."""
    return in_projects(project, work)[0]


def in_projects(project: str | None, work: Callable[[PostgresMemory], Awaitable[T]]) -> list[T]:
    """Do something in one project's memory, or in that of each in turn, by name."""

    async def run(pool: asyncpg.Pool, settings: Settings) -> list[T]:
        return [await work(memory) for memory in await _memories(pool, settings, project)]

    return _with_pool(run)


def in_the_one(
    project: str | None, key: str, partition: str, work: Callable[[PostgresMemory], Awaitable[T]]
) -> T | None:
    """Do something in the memory that has a key; None where none has.

    Raises:
        UsageError: Several projects have it.
    """

    async def run(pool: asyncpg.Pool, settings: Settings) -> T | None:
        memories = await _memories(pool, settings, project)
        those = [memory for memory in memories if await memory.retrieve(key, partition=partition)]
        if len(those) > 1:
            names = ", ".join(memory.project for memory in those)
            raise UsageError(f"{key} is in the memory of {names}: --project says which you mean")
        return await work(those[0]) if those else None

    return _with_pool(run)


async def _memories(pool: asyncpg.Pool, settings: Settings, project: str | None) -> list[PostgresMemory]:
    from qefleet.memory.postgres import PostgresMemory, projects
    from worker.embedder import find_embedder

    names = [project] if project is not None else sorted(await projects(pool))
    return [PostgresMemory(pool, project=name, embedder=find_embedder(settings, name)) for name in names]


def _with_pool(run: Callable[[asyncpg.Pool, Settings], Awaitable[T]]) -> T:
    from worker.cli.database import database
    from worker.settings import Settings

    async def with_pool() -> T:
        settings = Settings.load()
        async with database(settings) as pool:
            return await run(pool, settings)

    return asyncio.run(with_pool())
