"""Every JSON document in the docs: opened as in production, then run with activities that answer at once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from doc_pages import APPROVALS, CONTROL, OVERVIEW, PATTERNS, approved_at_once
from fakes import FakeFleet
from on_a_server import replays, start, working
from temporalio.testing import WorkflowEnvironment

from activities.runs import RunActivities
from qefleet.agents.catalogue import built_in
from qefleet.fleet.lifecycle import Lifecycle
from qefleet.fleet.store import RunStore
from qefleet.flows import all_shipped
from qefleet.llm.models import ModelChoice
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.workspace.sandbox import Sandbox
from qefleet.workspace.workspace import Workspaces

PLAN = {"tasks": [{"id": "run", "agent": "test-executor"}, {"id": "cover", "agent": "coverage-analyzer"}]}

EXAMPLES: list[Any] = [
    pytest.param(page.workflow_type, value, id=f"{page.name}-{number}")
    for page in (*PATTERNS, OVERVIEW, APPROVALS, CONTROL)
    for number, value in enumerate(page.inputs)
]
"""All documents, with the type of workflow that takes them."""


class OpenedForReal(FakeFleet):
    """Agents that answer at once, in runs whose input is checked against the agents that there are."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__(parts=2, items=1, commands={"fleet-commander#0": PLAN})
        self._runs = RunActivities(lifecycle)

    @property
    def activities(self) -> list[Callable[..., Any]]:
        real = [self._runs.open_run, self._runs.add_steps]
        names = {method.__name__ for method in real}
        return [*real, *(method for method in super().activities if method.__name__ not in names)]


@pytest.fixture(scope="module")
async def lifecycle(
    postgres: ThrowAwayPostgres, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lifecycle]:
    async with postgres.database() as dsn, await open_pool(dsn) as pool:
        artifacts = Artifacts(pool)
        yield Lifecycle(
            catalogue=built_in(),
            store=RunStore(pool),
            workspaces=Workspaces(
                data_dir=tmp_path_factory.mktemp("data"),
                sandbox=sandbox,
                artifacts=artifacts,
                uv=Path(sys.executable).with_name("uv"),
            ),
            artifacts=artifacts,
            models=ModelChoice(default="none", providers=frozenset({"openai"})),
            flows=all_shipped(),
        )


@pytest.mark.parametrize(("kind", "value"), EXAMPLES)
async def test_document_runs(
    kind: str, value: Any, temporal: WorkflowEnvironment, lifecycle: Lifecycle
) -> None:
    """The run completes, whatever it asks people being approved, and its history replays."""
    async with working(temporal, OpenedForReal(lifecycle)) as queue:
        handle = await start(temporal, queue, approved_at_once(value), kind=kind)
        result = await handle.result()

        assert [step.step for step in result.steps if step.status != "completed"] == []
        assert await replays(handle)
