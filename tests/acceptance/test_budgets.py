"""A run that would cost ten times its budget, on everything that is real but the provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planted import FUNCTIONS, make_project
from running_fleet import RunningFleet, figures, running_fleet

from qefleet.contracts.runs import RunResult
from qefleet.llm.receipts import ListedCall, list_calls
from qefleet.sql.database import open_pool

BUDGET_USD = 0.10
PRICES = '[openai]\n"gpt-4.1-mini" = { input = 200, output = 200 }\n'
"""So that a call costs about 0.095 USD, and one for each of the functions about one USD."""


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    prices = tmp_path_factory.mktemp("prices") / "prices.toml"
    prices.write_text(PRICES)
    async with running_fleet(tmp_path_factory.mktemp("data"), extra={"QE_PRICES": str(prices)}) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


async def paid_calls(fleet: RunningFleet, workflow_id: str) -> list[ListedCall]:
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        run = await pool.fetchval("SELECT run_id FROM runs WHERE workflow_id = $1", workflow_id)
        return [call for call in await list_calls(pool, run_id=run) if call.state == "answered"]


async def run(fleet: RunningFleet, workflow_id: str, kind: str, value: dict[str, Any]) -> RunResult:
    return await fleet.execute(value, workflow_id=workflow_id, kind=kind)


async def test_run_stops_at_its_budget(fleet: RunningFleet, project: Path) -> None:
    """It keeps the tests that it had, measures them, and says what happened; over by less than a call."""
    value = {
        "target": str(project),
        "agents": [{"agent": "test-generator", "on_failure": "continue"}, "test-executor"],
        "budget_usd": BUDGET_USD,
    }
    result = await run(fleet, "ten-cents", "Pipeline", value)
    calls = await paid_calls(fleet, "ten-cents")

    generator = result.steps[0]
    costs = [call.cost_usd or 0.0 for call in calls]
    assert FUNCTIONS * min(costs) > 1.0
    assert result.usage.cost_usd == pytest.approx(sum(costs))
    assert BUDGET_USD <= sum(costs) < BUDGET_USD + max(costs)
    assert generator.error is not None
    assert (generator.status, generator.error.type) == ("failed", "BudgetExceeded")
    assert generator.headline.endswith("; stopped by its budget")
    assert [note for note in result.notes if "of 0.1 USD: start another run with a larger budget_usd" in note]
    assert generator.patch is not None
    assert figures(result)["test-executor#1.tests.passed"] == 1 + len(calls)


async def test_agents_side_by_side_share_the_runs_budget(fleet: RunningFleet, project: Path) -> None:
    """Three that ask at once: still over by less than a call, and the run says it once."""
    agents = [{"agent": "test-generator", "on_failure": "continue"}] * 3
    value = {"target": str(project), "agents": agents, "then": [], "budget_usd": BUDGET_USD}
    result = await run(fleet, "three-at-once", "Parallel", value)
    costs = [call.cost_usd or 0.0 for call in await paid_calls(fleet, "three-at-once")]

    assert BUDGET_USD <= sum(costs) < BUDGET_USD + max(costs)
    assert [step.error and step.error.type for step in result.steps] == ["BudgetExceeded"] * 3
    assert len([note for note in result.notes if "budget_usd" in note]) == 1


async def test_an_agents_own_budget_ends_that_agent_alone(fleet: RunningFleet, project: Path) -> None:
    """The others go on; what is said names the step."""
    limited: dict[str, Any] = {"agent": "test-generator", "on_failure": "continue", "budget_usd": 0.01}
    value = {"target": str(project), "agents": [limited, "coverage-analyzer"]}
    result = await run(fleet, "one-cent", "Pipeline", value)

    generator, analyzer = result.steps
    assert generator.error is not None
    assert "test-generator#0 has spent" in generator.error.message
    assert (generator.usage.calls, analyzer.error, analyzer.judged is not None) == (1, None, True)
