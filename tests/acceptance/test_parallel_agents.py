"""`Parallel` on everything real: one agent fails, one hangs, one is over budget, five are fine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from planted import make_project
from running_fleet import RunningFleet, running_fleet

from qefleet.contracts.progress import Progress
from qefleet.contracts.runs import Decision, RunResult
from qefleet.testing.distribution import lay_distribution

FINE = [{"agent": "slow", "options": {"seconds": n / 2}} for n in range(4)]
AGENTS = [
    {"agent": "failing", "on_failure": "continue"},
    {"agent": "hanging", "on_failure": "continue", "timeout_minutes": 0.1},
    {"agent": "test-generator", "on_failure": "continue"},
    "test-executor",
    *FINE,
]


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    agents = await asyncio.to_thread(lay_distribution, tmp_path_factory.mktemp("agents"))
    async with running_fleet(tmp_path_factory.mktemp("data"), extra={"PYTHONPATH": str(agents)}) as running:
        yield running


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    project = make_project(tmp_path_factory.mktemp("project"), functions=2)
    return {"target": str(project), "agents": AGENTS, "budget_usd": 1e-9, "max_concurrent": 8}


@pytest.fixture(scope="module")
async def result(fleet: RunningFleet, value: dict[str, Any]) -> RunResult:
    return await fleet.execute(value, workflow_id="eight", kind="Parallel")


async def test_five_results_and_three_typed_errors(result: RunResult) -> None:
    """Each result or error is kept, whatever became of the siblings."""
    ended = [(step.agent, step.status, step.error.type if step.error else None) for step in result.steps[:-1]]

    assert ended == [
        ("failing", "failed", "MissingTool"),
        ("hanging", "failed", "TimedOut"),
        ("test-generator", "failed", "BudgetExceeded"),
        ("test-executor", "completed", None),
        *[("slow", "completed", None)] * 4,
    ]


async def test_gate_counts_what_failed(result: RunResult) -> None:
    """By default nothing may have failed; the rule names the number."""
    gate = result.steps[-1]

    assert result.decision is Decision.NO_GO
    assert "steps.failed is 3, at most 0 asked" in gate.headline


async def test_policy_that_allows_failures_goes(fleet: RunningFleet, value: dict[str, Any]) -> None:
    """The same run, where three may fail."""
    allowed = value | {"thresholds": {"failed_steps_max": 3}}

    result = await fleet.execute(allowed, workflow_id="eight-allowed", kind="Parallel")

    assert result.decision is Decision.GO


async def test_people_see_the_same(fleet: RunningFleet, result: RunResult) -> None:
    """The query and the details in the UI tell each agent's end."""
    handle = fleet.client.get_workflow_handle("eight")
    progress = await handle.query("progress", result_type=Progress)
    details = str(await handle.query("__temporal_workflow_metadata"))

    assert [step.status for step in progress.steps] == [step.status for step in result.steps]
    assert "TimedOut: not done within 0.1 minutes" in details
    assert "MissingTool: failing#0 fails" in details
