"""Real processes killed with SIGKILL in the middle of runs; every request at the provider is counted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from planted import FUNCTIONS, make_project
from running_fleet import RunningFleet, children, figures, running_fleet

from qefleet.contracts.runs import RunResult
from qefleet.sql.database import open_pool

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

OPTIONS = {
    "agents": [
        {"agent": "test-generator", "options": {"max_rounds": 1}},
        "test-executor",
        "coverage-analyzer",
        "quality-gate",
    ]
}


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
async def undisturbed(fleet: RunningFleet, project: Path) -> RunResult:
    return await fleet.execute({"target": str(project), **OPTIONS}, workflow_id="undisturbed")


async def disturbed_runs(
    fleet: RunningFleet, project: Path, *, name: str, process: str, runs: int, kills: int
) -> tuple[list[RunResult], int, int]:
    """Runs one after the other while a process is killed at random moments.

    Returns:
        The results, the requests that the provider counted, and the kills.
    """
    before = len(await fleet.provider.requests())
    killed = 0

    async def all_runs() -> list[RunResult]:
        return [
            await fleet.execute({"target": str(project), **OPTIONS}, workflow_id=f"{name}-{number}")
            for number in range(runs)
        ]

    running = asyncio.create_task(all_runs())
    while not running.done():
        await asyncio.sleep(random.uniform(5, 20))
        if killed < kills and (victims := children(process)):
            for victim in victims:
                with suppress(psutil.NoSuchProcess):  # it died with one of the others
                    victim.kill()
            killed += 1
    requests = (await fleet.provider.requests())[before:]
    doubled = Counter(request.prompt for request in requests)
    print(f"{name}: {runs} runs, {killed} kills, {len(requests)} requests, {len(doubled)} prompts")  # noqa: T201
    return await running, len(requests), killed


async def test_worker_killed_thirty_times(fleet: RunningFleet, project: Path, undisturbed: RunResult) -> None:
    """10 runs of 12 calls, 30 kills: 120 requests, results as undisturbed."""
    results, requests, killed = await disturbed_runs(
        fleet, project, name="worker", process="worker.main", runs=10, kills=30
    )

    assert killed == 30
    assert [figures(result) for result in results] == [figures(undisturbed)] * 10
    assert requests == 10 * FUNCTIONS


async def test_gateway_killed_ten_times(fleet: RunningFleet, project: Path, undisturbed: RunResult) -> None:
    """A killed gateway can buy again only what was in flight, and `attempts` shows it."""
    results, requests, killed = await disturbed_runs(
        fleet, project, name="gateway", process="worker.gateway", runs=4, kills=10
    )

    assert [figures(result) for result in results] == [figures(undisturbed)] * 4
    assert 4 * FUNCTIONS <= requests <= 4 * FUNCTIONS + killed
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        attempts = await pool.fetchval(
            "SELECT sum(attempts) FROM model_calls WHERE workflow_id LIKE 'gateway-%' AND state = 'answered'"
        )
    assert requests <= attempts


@pytest.mark.parametrize(("name", "process"), [("temporal", "start-dev"), ("postgres", "-D")])
async def test_server_killed_five_times(
    fleet: RunningFleet, project: Path, undisturbed: RunResult, name: str, process: str
) -> None:
    """Temporal's and Postgres' deaths in mid-run: all complete, nothing bought twice."""
    results, requests, killed = await disturbed_runs(
        fleet, project, name=name, process=process, runs=3, kills=5
    )

    assert killed == 5
    assert [figures(result) for result in results] == [figures(undisturbed)] * 3
    assert requests == 3 * FUNCTIONS
