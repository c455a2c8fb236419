"""A fleet that learns, with a scripted model: what is asked, what is counted, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planted import make_project
from running_fleet import RunningFleet, figures, reset_and_wait, running_fleet

from qefleet.contracts.learning import Strategy
from qefleet.contracts.measured import Measured
from qefleet.memory.postgres import PostgresMemory
from qefleet.sql.database import open_pool
from qefleet.tools.generation.pynguin import PYNGUIN
from worker.cli.database import sql
from worker.cli.learning import explain_choice

FUNCTIONS = 2
RECALLED = "tests that were kept for similar code of this project"


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    dear = {"QE_MODEL_CRITICAL": "openai/gpt-4.1"}
    async with running_fleet(tmp_path_factory.mktemp("data"), extra=dear) as running:
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


async def test_what_people_noted_is_shown_to_the_models(fleet: RunningFleet, project: Path) -> None:
    """In each call of the run, and the step says how much it was."""
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        memory = PostgresMemory(pool, project="planted")
        await memory.store("aqe/notes/shapes", "rounding is wrong on purpose")
        asked = await prompts(fleet, {"target": str(project)}, "noted")
        await memory.delete("aqe/notes/shapes")
    result = await fleet.execute({"target": str(project)}, workflow_id="noted")

    assert [prompt.count("rounding is wrong on purpose") for prompt in asked] == [1] * FUNCTIONS
    assert [note for note in result.steps[0].notes if note.startswith("memory for its model: 1 shown")]


@pytest.mark.soak
@pytest.mark.skipif(PYNGUIN.version() is None, reason=f"no Pynguin here: {PYNGUIN.how_to_install}")
async def test_pynguin_finds_tests_without_asking_a_model(fleet: RunningFleet, project: Path) -> None:
    """Each function's tests come from its search, and no prompt is sent."""
    asked = await prompts(fleet, {"target": str(project), "policy": "pynguin"}, "pynguin")
    result = await fleet.execute({"target": str(project)}, workflow_id="pynguin")

    generated = result.steps[0]
    assert (asked, generated.status, generated.notes) == ([], "completed", [])
    kept = generated.measured.metrics["generation.kept"] if generated.measured else None
    assert isinstance(kept, Measured)
    assert kept.value >= FUNCTIONS


async def test_a_run_that_learns_says_why_it_chose(fleet: RunningFleet, project: Path) -> None:
    """Order, ways and models of each item, what was known, the reason, and the reward with its parts.

    The models are asked for another round than the first one where it is chosen, and never one more.
    """
    workflow = {"target": str(project), "policy": "learned", "policy_seed": 5}
    before = len(await fleet.provider.requests())
    await fleet.execute(workflow | {"agents": ["test-generator"]}, workflow_id="learned")
    asked = (await fleet.provider.requests())[before:]
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        rows = [dict(row) for row in await pool.fetch(sql("choices_of_step"), "learned", "test-generator#0")]
    told = [explain_choice(row) for row in rows]
    by_decision: dict[str, list[str]] = {}
    for row in rows:
        by_decision.setdefault(row["decision"], []).append(row["action"])

    assert told[0].startswith("test-generator#0, order: ")
    assert "state: no-issues/large" in told[0]
    items = [text for row, text in zip(rows, told, strict=True) if row["decision"] == "strategy"]
    assert len(items) == FUNCTIONS
    assert all("state: function/no-example/untyped/short/few/large" in text for text in items)
    assert all("known: direct 0." in text and "why: " in text and "kept, " in text for text in items)
    assert len(by_decision["tier"]) == sum(Strategy(name).uses_model for name in by_decision["strategy"])
    assert {request.body["model"] for request in asked} <= {"gpt-4.1-mini", "gpt-4.1"}
    again = sum(actions.count("again") for name, actions in by_decision.items() if name[:5] == "depth")
    assert len(asked) == len(by_decision["tier"]) + again
    assert all(row["reward"] is not None for row in rows)
