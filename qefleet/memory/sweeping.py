"""What has expired, and old versions, go by themselves: a little at a time, from every worker."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta

import asyncpg

from qefleet.errors import StoreUnavailable
from qefleet.memory.postgres import PostgresMemory, projects

EVERY = timedelta(hours=1)
KEEP = timedelta(days=30)
ROWS_AT_ONCE = 1_000
ROUNDS_MAX = 20
"""Of one project in one hour; what is left waits for the next."""

_log = logging.getLogger(__name__)


async def sweep_all(pool: asyncpg.Pool, *, keep: timedelta = KEEP) -> int:
    """Sweep every project, so much at most; how many rows went."""
    count = 0
    for project in await projects(pool):
        memory = PostgresMemory(pool, project=project)
        for _ in range(ROUNDS_MAX):
            swept = await memory.sweep(keep=keep, limit=ROWS_AT_ONCE)
            count += swept.expired + swept.versions
            if not swept.more:
                break
    return count


async def keep_sweeping(pool: asyncpg.Pool, *, every: timedelta = EVERY, keep: timedelta = KEEP) -> None:
    """Sweep from time to time until it is cancelled; workers that start together don't sweep together."""
    while True:
        await asyncio.sleep(every.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        try:
            count = await sweep_all(pool, keep=keep)
        except (StoreUnavailable, asyncpg.PostgresError) as error:
            _log.warning("memory wasn't swept (%s); it is tried again", error)
        else:
            _log.debug("%d rows of memory swept", count)
