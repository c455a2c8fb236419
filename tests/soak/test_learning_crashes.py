"""Workers killed with SIGKILL while the fleet learns: what is learnt is what an undisturbed fleet learns."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from planted import make_project
from running_fleet import RunningFleet, children, running_fleet

from qefleet.sql.database import open_pool

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
RUNS, FUNCTIONS, KILLS = 16, 3, 30


async def learn(fleet: RunningFleet, project: Path, name: str) -> None:
    """Runs one after the other, each with a seed of its own."""
    for number in range(RUNS):
        await fleet.execute(
            {
                "target": str(project),
                "policy": "learned",
                "policy_seed": number,
                "agents": [{"agent": "test-generator", "options": {"max_segments": FUNCTIONS}}],
            },
            workflow_id=f"{name}-{number}",
        )


async def learnt(pool: asyncpg.Pool, name: str) -> dict[str, Any]:
    """Values, choices and trajectories of the runs of a name, and then none of the values any more."""
    values = await pool.fetch("SELECT state_key, action, value, visits FROM q_values ORDER BY 1, 2")
    patterns = await pool.fetch("SELECT name, description, uses, successes FROM patterns ORDER BY 1, 2")
    choices = await pool.fetch(
        "SELECT r.workflow_id, c.item, c.decision, c.action, c.reason, c.reward, c.rewards_before "
        "FROM choices AS c JOIN runs AS r USING (run_id) "
        "WHERE r.workflow_id LIKE $1 ORDER BY 1, c.ordinal, c.decision",
        f"{name}-%",
    )
    counted = await pool.fetchval(
        "SELECT count(*) FROM trajectories JOIN runs USING (run_id) "
        "WHERE workflow_id LIKE $1 AND reward IS NOT NULL",
        f"{name}-%",
    )
    await pool.execute("DELETE FROM q_values")
    await pool.execute("DELETE FROM patterns")
    return {
        "values": [tuple(row) for row in values],
        "patterns": [tuple(row) for row in patterns],
        "choices": [(row["workflow_id"].removeprefix(name), *tuple(row)[1:]) for row in choices],
        "trajectories": counted,
    }


async def test_thirty_kills_change_nothing_of_what_is_learnt(tmp_path: Path) -> None:
    """Values, visits, patterns and choices as undisturbed, to the last digit; each item counted once."""
    project = make_project(tmp_path / "project", functions=FUNCTIONS)
    killed = 0
    async with (
        running_fleet(tmp_path / "data", extra={"QE_MODEL": "none"}) as fleet,
        await open_pool(fleet.services.up.addresses.database_url) as pool,
    ):
        await learn(fleet, project, "undisturbed")
        expected = await learnt(pool, "undisturbed")
        running = asyncio.create_task(learn(fleet, project, "disturbed"))
        while not running.done():
            await asyncio.sleep(random.uniform(8, 28))
            if killed < KILLS and (victims := children("worker.main")):
                for victim in victims:
                    with suppress(psutil.NoSuchProcess):  # it died with one of the others
                        victim.kill()
                killed += 1
        await running
        found = await learnt(pool, "disturbed")
    print(f"{killed} kills, {found['trajectories']} trajectories, values: {found['values']}")  # noqa: T201

    assert found == expected
    assert found["trajectories"] == RUNS * FUNCTIONS
    orders = [row for row in found["values"] if row[1].startswith("order:")]
    assert sum(row[3] for row in orders) == RUNS
    assert sum(row[3] for row in found["values"]) == RUNS * FUNCTIONS + RUNS
    assert killed == KILLS
