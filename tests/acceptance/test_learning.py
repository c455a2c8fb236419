"""A fleet that learns, with a scripted model: what is asked, what is counted, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planted import make_project
from running_fleet import RunningFleet, figures, reset_and_wait, running_fleet

from qefleet.sql.database import open_pool
from worker.cli.database import sql
from worker.cli.learning import explain_choice

FUNCTIONS = 2
RECALLED = "tests that were kept for similar code of this project"


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), functions=FUNCTIONS)


async def prompts(fleet: RunningFleet, run_input: dict[str, Any], workflow_id: str) -> list[str]:
    """What a run asks the model."""
    before = len(await fleet.provider.requests())
    options = {"max_rounds": 1}
    agents = [{"agent": "test-generator", "options": options}]
    await fleet.execute({"agents": agents, **run_input}, workflow_id=workflow_id)
    return [request.prompt for request in (await fleet.provider.requests())[before:]]


async def counted(fleet: RunningFleet) -> dict[str, int]:
    """Choices, rewarded trajectories, rewards in values, patterns."""
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        return {
            "choices": await pool.fetchval("SELECT count(*) FROM choices"),
            "rewarded": await pool.fetchval("SELECT count(*) FROM trajectories WHERE reward IS NOT NULL"),
            "visits": await pool.fetchval("SELECT sum(visits)::bigint FROM q_values"),
            "patterns": await pool.fetchval("SELECT count(*) FROM patterns"),
        }


async def test_what_is_learnt_is_counted_once_and_recalled(fleet: RunningFleet, project: Path) -> None:
    """Off, `direct` and `recalled` ask as they should; a run that is reset counts nothing again."""
    off = await prompts(fleet, {"target": str(project)}, "off")
    direct = await prompts(fleet, {"target": str(project), "policy": "direct"}, "direct")
    recalled = await prompts(fleet, {"target": str(project), "policy": "recalled"}, "recalled")
    before = await counted(fleet)
    first = await fleet.execute({"target": str(project)}, workflow_id="recalled")
    again = await reset_and_wait(fleet.client, "recalled")

    assert off == direct
    assert len(off) == FUNCTIONS
    assert not any(RECALLED in prompt for prompt in direct)
    assert all(RECALLED in prompt for prompt in recalled)
    assert before == {
        "choices": 2 * FUNCTIONS, "rewarded": 2 * FUNCTIONS, "visits": 2 * FUNCTIONS, "patterns": FUNCTIONS,
    }  # fmt: skip
    assert await counted(fleet) == before
    assert figures(again) == figures(first)


async def test_a_run_that_learns_says_why_it_chose(fleet: RunningFleet, project: Path) -> None:
    """Each item's state, what was known, the reason, and the reward with what it was made of."""
    await prompts(fleet, {"target": str(project), "policy": "learned", "policy_seed": 1}, "learned")
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        rows = await pool.fetch(sql("choices_of_step"), "learned", "test-generator#0")
    told = [explain_choice(dict(row)) for row in rows]

    assert len(told) == FUNCTIONS
    assert all("state: function/no-example/untyped/short/few/large" in text for text in told)
    assert all("known: direct 0." in text and "why: " in text and "reward: " in text for text in told)
