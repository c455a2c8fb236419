"""A workflow whose activities wait for a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority


@dataclass(frozen=True, kw_only=True)
class Work:
    """So many activities of one name."""

    name: str
    count: int
    priority: Priority


@workflow.defn
class Waiting:
    """Schedules all of its activities at once."""

    @workflow.run
    async def run(self, work: Work) -> None:
        """Wait until all have ended."""
        await asyncio.gather(
            *(
                workflow.execute_activity(
                    "work",
                    work.name,
                    start_to_close_timeout=timedelta(minutes=1),
                    priority=work.priority,
                )
                for _ in range(work.count)
            )
        )
