"""A commander's plan on everything that is real, with a scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planted import make_project
from running_fleet import running_fleet

from qefleet.contracts.commands import Command
from qefleet.contracts.runs import TASK_QUEUE, Decision, RunResult


async def test_a_wrong_plan_is_asked_again_and_the_right_one_followed(tmp_path: Path) -> None:
    """The model hears why its plan was refused; its tasks are run, and the gate looks at all of them.

    The next run on the same project shows it what it planned, and how that ended.
    """
    project = make_project(tmp_path / "project", functions=1)
    async with running_fleet(tmp_path / "data") as fleet:
        result = await fleet.client.execute_workflow(
            "Hierarchical",
            {"target": str(project)},
            id="commanded",
            task_queue=TASK_QUEUE,
            result_type=RunResult,
        )
        plans = [r.prompt for r in await fleet.provider.requests() if "Plan the fewest tasks" in r.prompt]
        value: dict[str, Any] = {"target": str(project), "request": "And now?", "then": []}
        await fleet.execute(value, workflow_id="commanded-again", kind="Hierarchical")
        again = [r for r in await fleet.provider.requests() if "Plan the fewest tasks" in r.prompt][
            len(plans)
        ]

    assert len(plans) == 2
    assert [message["role"] for message in again.body["messages"]] == ["user", "assistant", "user"]
    assert "the run ended with GO; all completed" in again.body["messages"][0]["content"]
    assert "tasks.0.agent: no such agent; choose from test-generator, test-executor" in plans[1]
    commander = result.steps[0]
    assert [task.agent for task in Command.model_validate(commander.judged).tasks] == [
        "test-executor",
        "coverage-analyzer",
    ]
    assert {step.agent for step in result.steps[1:]} == {"test-executor", "coverage-analyzer", "quality-gate"}
    assert result.decision is Decision.GO
