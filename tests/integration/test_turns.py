"""Where tasks wait for a worker, those of different targets take turns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client
from temporalio.common import Priority
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker
from waiting import Waiting, Work

MANY, FEW = 300, 3


async def ranks_of_the_few(temporal: WorkflowEnvironment, many: Work, few: Work) -> list[int]:
    """Queue many activities, then a few; when each of the few was begun, counted over all."""
    # Without the fleet's plug-in, which refuses workflows that aren't the fleet's.
    client = await Client.connect(temporal.client.service_client.config.target_host)
    begun: list[str] = []
    enough = asyncio.Event()

    @activity.defn(name="work")
    async def work(name: str) -> None:
        begun.append(name)
        if len(begun) == MANY // 10:
            enough.set()
        await asyncio.sleep(0.01)

    queue = f"fairness-{uuid4().hex[:8]}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Waiting],
        activities=[work],
        max_concurrent_activities=4,
        disable_eager_activity_execution=True,
    ):
        first = await client.start_workflow(Waiting.run, many, id=f"{queue}-many", task_queue=queue)
        await enough.wait()
        then = await client.start_workflow(Waiting.run, few, id=f"{queue}-few", task_queue=queue)
        await asyncio.wait_for(asyncio.gather(first.result(), then.result()), timedelta(minutes=2).seconds)
    return [rank for rank, name in enumerate(begun) if name == few.name]


async def test_targets_take_turns(temporal: WorkflowEnvironment) -> None:
    """A target's few tasks don't wait behind another's many that came before."""
    ranks = await ranks_of_the_few(
        temporal,
        Work(name="many", count=MANY, priority=Priority(priority_key=3, fairness_key="pypi:many==1")),
        Work(name="few", count=FEW, priority=Priority(priority_key=3, fairness_key="pypi:few==1")),
    )

    assert max(ranks) < MANY // 5


async def test_urgent_tasks_go_first(temporal: WorkflowEnvironment) -> None:
    """A lower priority key goes before a higher one, within a target too."""
    ranks = await ranks_of_the_few(
        temporal,
        Work(name="many", count=MANY, priority=Priority(priority_key=5, fairness_key="pypi:one==1")),
        Work(name="few", count=FEW, priority=Priority(priority_key=1, fairness_key="pypi:one==1")),
    )

    assert max(ranks) < MANY // 5
