"""Worker, gateway, Temporal, Postgres and `qe up` killed at once, after each activity of four runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import environment, qe
from fleet_process import FleetProcess
from planted import make_project
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from qefleet.contracts.runs import TASK_QUEUE
from qefleet.sql.database import open_pool
from qefleet.testing.provider import ScriptedProvider

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
REPLIES = f"{Path(__file__).parents[1] / 'acceptance' / 'planted.py'}:answer"

RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Pipeline", {"agents": ["test-generator", "coverage-analyzer"], "policy": "learned", "policy_seed": 1}),
    ("Hierarchical", {}),
    ("Pipeline", {"agents": ["test-generator", "coverage-analyzer"], "policy": "recalled"}),
    ("Hierarchical", {"request": "And now?", "then": []}),
)
"""The third recalls tests that the first kept; the fourth goes on with the conversation of the second."""

KEPT = {
    "memory": "SELECT project, key, version, CASE WHEN run_id IS NULL THEN value ELSE "
    "jsonb_build_array(value -> 'status', value -> 'headline', value -> 'judged') END "
    "FROM memory ORDER BY 1, 2",
    "history": "SELECT project, key, version FROM memory_history ORDER BY 1, 2, 3",
    "values": "SELECT agent, state_key, action, value, visits FROM q_values ORDER BY 1, 2, 3",
    "patterns": "SELECT agent, name, content, uses, successes, score FROM patterns ORDER BY 1, 2, 3",
    "conversations": "SELECT project, agent, turn, step, asked, answered FROM conversation_turns "
    "ORDER BY 1, 2, 3",
    "choices": "SELECT r.workflow_id, c.step, c.item, c.ordinal, c.decision, c.action, c.reason, c.reward, "
    "c.value_after FROM choices AS c JOIN runs AS r USING (run_id) ORDER BY 1, 2, 4, 5",
    "trajectories": "SELECT r.workflow_id, t.step, t.ordinal, t.action, t.reward FROM trajectories AS t "
    "JOIN runs AS r USING (run_id) ORDER BY 1, 2, 3",
}


async def four_runs(
    folder: Path, project: Path, *, restart: bool
) -> tuple[dict[str, Any], Counter[str], int]:
    """All of `RUNS` in a fleet of their own.

    Args:
        folder: Of the fleet's state.
        project: What they run on.
        restart: Kill everything, and start it again, each time that activities were completed.

    Returns:
        What is kept afterwards, the provider's requests by prompt, and how often all was killed.
    """
    killed = 0
    async with ScriptedProvider(replies=REPLIES) as provider:
        env = environment(
            folder / "data",
            QE_MODEL="openai/gpt-4.1-mini",
            OPENAI_API_KEY="sk-test-canary",
            OPENAI_BASE_URL=f"{provider.url}/v1",
        )
        with FleetProcess(env, folder) as fleet:
            noted = qe("memory", "store", "aqe/notes/owner", '{"team": "shapes"}', env=env, cwd=folder)
            assert noted.code == 0, noted.err
            for number, (kind, run_input) in enumerate(RUNS):
                client = await Client.connect(fleet.address)
                run = await client.start_workflow(
                    kind, {"target": str(project), **run_input}, id=f"run-{number}", task_queue=TASK_QUEUE
                )
                completed = 0
                while (await run.describe()).status == WorkflowExecutionStatus.RUNNING:
                    if restart and (now := await activities_completed(run)) > completed:
                        completed, killed = now, killed + 1
                        await asyncio.to_thread(fleet.kill_everything)
                        await asyncio.to_thread(fleet.start)
                        client = await Client.connect(fleet.address)
                        run = client.get_workflow_handle(f"run-{number}")
                    await asyncio.sleep(0.02)
                await run.result()
            async with (
                await open_pool(fleet.database) as pool,
                pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.execute("SET LOCAL qe.project = '*'")
                kept = {name: list(map(tuple, await connection.fetch(query))) for name, query in KEPT.items()}
                paid = await connection.fetchval("SELECT sum(attempts)::bigint FROM model_calls")
        prompts = Counter(request.prompt for request in await provider.requests())
    assert prompts.total() <= paid
    return kept, prompts, killed


async def activities_completed(run: WorkflowHandle[Any, Any]) -> int:
    """How many activities of a run are done."""
    history = await run.fetch_history()
    return sum(e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED for e in history.events)


async def test_everything_goes_on_where_it_was(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Memory, values, patterns and conversations are those of a fleet that nobody disturbed."""
    project = make_project(tmp_path_factory.mktemp("project"), functions=2)

    expected, asked, _ = await four_runs(tmp_path_factory.mktemp("undisturbed"), project, restart=False)
    found, asked_again, killed = await four_runs(tmp_path_factory.mktemp("disturbed"), project, restart=True)
    told = {name: len(rows) for name, rows in found.items()}
    print(f"{killed} kills, {asked_again.total()} requests of {asked.total()}, {told}")  # noqa: T201

    assert killed >= 20
    assert all(expected.values())
    assert found == expected
    assert asked_again.keys() == asked.keys()
