"""Ten thousand items, each with a model call, while the worker is killed again and again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from planted import make_project
from running_fleet import RunningFleet, children, running_fleet

from qefleet.contracts.runs import TASK_QUEUE, RunResult
from qefleet.sql.database import open_pool
from qefleet.testing.distribution import lay_distribution

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]

ITEMS = 10_000
KILLS = 20
KILLED_UNTIL = 6_000
"""Items after which the worker is left alone, so that its memory can be watched."""
WARM = 1_000


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[RunningFleet]:
    agents = await asyncio.to_thread(lay_distribution, tmp_path / "agents")
    async with running_fleet(tmp_path / "data", extra={"PYTHONPATH": str(agents)}) as running:
        yield running


class Watch:
    """Kills the worker on the way, and measures its memory once it is left alone."""

    def __init__(self, fleet: RunningFleet) -> None:
        self.kills = 0
        self.left_alone_at: int | None = None
        self.warm_bytes = 0
        self.last_bytes = 0
        self._fleet = fleet

    async def run(self) -> None:
        async with await open_pool(self._fleet.services.up.addresses.database_url, max_size=1) as pool:
            while True:
                await asyncio.sleep(random.uniform(2, 6))
                done = await pool.fetchval("SELECT count(*) FROM steps WHERE step LIKE '%/%'")
                workers = children("worker.main")
                if self.kills < KILLS and self.kills * KILLED_UNTIL <= done * KILLS and workers:
                    for worker in workers:
                        worker.kill()
                    self.kills += 1
                elif self.kills >= KILLS and workers:
                    self._measure(done, workers[0])

    def _measure(self, done: int, worker: psutil.Process) -> None:
        memory = worker.memory_info().rss
        if self.left_alone_at is None:
            self.left_alone_at = done
        if done >= self.left_alone_at + WARM and not self.warm_bytes:
            self.warm_bytes = memory
        self.last_bytes = memory


async def test_each_answer_exactly_once(fleet: RunningFleet, tmp_path: Path) -> None:
    """10,000 items, 20 kills: each answered and paid for once, histories and memory bounded."""
    project = await asyncio.to_thread(make_project, tmp_path / "project")
    items = [{"id": f"item-{n:05}", "title": f"the item {n}"} for n in range(ITEMS)]
    value = {"target": str(project), "over": items, "agents": ["echo-item"], "then": []}
    handle = await fleet.client.start_workflow(
        "ParallelExpansion",
        value | {"max_concurrent": 32},
        id="many",
        task_queue=TASK_QUEUE,
        result_type=RunResult,
    )
    watch = Watch(fleet)
    watching = asyncio.create_task(watch.run())
    result = await handle.result()
    watching.cancel()

    assert result.steps[0].measured.value("echo.items") == ITEMS
    assert result.steps[0].measured.value("items.failed") == 0
    prompts = [request.prompt for request in await fleet.provider.requests()]
    asked = Counter(prompt for prompt in prompts if '"item-' in prompt)
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        said = await pool.fetch(
            "SELECT i.item ->> 'id' AS id, s.result -> 'judged' ->> 'text' AS text"
            " FROM steps s JOIN items i ON s.step = 'echo-item#0/' || i.ordinal AND s.run_id = i.run_id"
        )
        attempts = await pool.fetchval(
            "SELECT count(*) FROM model_attempts JOIN model_calls USING (call_key) WHERE agent = 'echo-item'"
        )
    sizes = [
        (execution.history_length, execution.raw_info.history_size_bytes)
        async for execution in fleet.client.list_workflows()
    ]
    mb = [round(size / 2**20) for size in (watch.warm_bytes, watch.last_bytes)]
    print(f"{watch.kills} kills, {len(asked)} prompts, {sum(asked.values())} requests, {attempts} attempts")  # noqa: T201
    print(f"{len(sizes)} histories, at most {max(sizes)} events and bytes; worker {mb} MB; {result.usage}")  # noqa: T201
    assert watch.kills == KILLS
    assert (len(asked), sum(asked.values()), attempts) == (ITEMS, ITEMS, ITEMS)
    assert len(said) == ITEMS
    assert all(row["id"] == row["text"] for row in said)
    assert max(events for events, _ in sizes) < 10_000
    assert max(size for _, size in sizes) < 5 * 2**20
    assert watch.last_bytes < 1.2 * watch.warm_bytes
