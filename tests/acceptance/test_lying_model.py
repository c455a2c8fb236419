"""A model that lies changes no number and no decision, and what it cites is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planted import make_project
from running_fleet import HERE, RunningFleet, figures, running_fleet

from qefleet.contracts.runs import Decision, RunResult


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(
        tmp_path_factory.mktemp("data"), replies=f"{HERE / 'liar.py'}:answer"
    ) as running:
        yield running


async def _both(fleet: RunningFleet, run_input: dict[str, Any], name: str) -> tuple[RunResult, RunResult]:
    """The same run with the lying model, and with none."""
    lied = await fleet.execute({**run_input, "approval": None}, workflow_id=f"{name}-lied", kind="Release")
    honest = await fleet.execute(
        {**run_input, "approval": None, "model": "none"}, workflow_id=f"{name}-none", kind="Release"
    )
    return lied, honest


@pytest.mark.parametrize("red", [False, pytest.param(True, marks=pytest.mark.soak)])
async def test_a_lying_model_changes_no_number_and_no_decision(
    fleet: RunningFleet, tmp_path: Path, red: bool
) -> None:
    """Every figure that tools gave is the same to the last digit as where no model was asked."""
    project = make_project(tmp_path / "planted", functions=3, red=red)
    thresholds = {"line_percent_min": 60}

    lied, honest = await _both(
        fleet, {"target": str(project), "generate": [], "thresholds": thresholds}, f"lies-{red}"
    )

    assert figures(lied) == figures(honest)
    assert len(figures(lied)) > 20
    assert lied.decision is honest.decision
    expected = Decision.NO_GO if red else Decision.CONDITIONAL
    assert lied.decision is expected, lied.steps[-1].headline
    assert lied.usage.calls > 0
    judged = [step for step in lied.steps if step.judged is not None]
    assert [step.step for step in judged] == []
    asked = [step for step in lied.steps if step.error]
    assert {step.error.type for step in asked if step.error} == {"ModelUnusable"}
    assert {step.status for step in lied.steps} == {"completed"}


async def test_tests_that_prove_nothing_are_not_kept(fleet: RunningFleet, tmp_path: Path) -> None:
    """Whatever the model says of them."""
    project = make_project(tmp_path / "planted", functions=2)

    result = await fleet.execute({"target": str(project)}, workflow_id="lying-tests")

    generator = result.steps[0].measured
    assert generator.value("generation.proposed")
    assert generator.value("generation.kept") == 0
    assert result.patch is None
