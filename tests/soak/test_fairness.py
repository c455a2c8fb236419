"""One user's two thousand items don't starve another's three."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from planted import make_project
from running_fleet import running_fleet

from qefleet.testing.distribution import lay_distribution

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

MANY, FEW = 2_000, 3


async def test_small_run_ends_in_the_first_tenth(tmp_path: Path) -> None:
    """2,000 items of one target, and 3 of another that were started later."""
    agents = await asyncio.to_thread(lay_distribution, tmp_path / "agents")
    projects = [
        await asyncio.to_thread(make_project, tmp_path / name, functions=n)
        for n, name in ((1, "a"), (2, "b"))
    ]

    async with running_fleet(tmp_path / "data", extra={"PYTHONPATH": str(agents)}) as fleet:

        async def timed(project: Path, items: int, name: str) -> float:
            value = {"target": str(project), "over": [f"{name}-{n}" for n in range(items)], "then": []}
            value |= {"agents": ["echo-item"], "max_concurrent": 64}
            began = time.monotonic()
            await fleet.execute(value, workflow_id=name, kind="ParallelExpansion")
            return time.monotonic() - began

        large = asyncio.create_task(timed(projects[0], MANY, "large"))
        await asyncio.sleep(30)
        small_s = await timed(projects[1], FEW, "small")
        large_s = await large

    print(f"{MANY} items in {large_s:.0f} s, {FEW} items in {small_s:.0f} s")  # noqa: T201
    assert small_s < large_s / 10
