"""Two builds side by side on a real Temporal server, and what becomes of the runs of one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from fakes import FakeFleet
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkerDeploymentConfig

from qefleet.contracts.patterns import PipelineInput
from qefleet.contracts.runs import Decision, RunResult
from worker import rollout
from worker.moving import Family, move_open_runs
from worker.registry import WORKFLOWS
from worker.replay import replay_one
from workflows.pipeline import Pipeline

X = "pypi:x==1"
HANGS = "test-executor#1"
"""The second step of a Pipeline with default agents; its measuring ends when the test says so."""


@workflow.defn(name="Pipeline")
class Changed:
    """A Pipeline that was changed without regard for the runs that are open: it waits before it opens."""

    @workflow.run
    async def run(self, input: PipelineInput) -> str:  # noqa: A002 - as the original
        await workflow.sleep(0.1)
        return str(input.target)


class Fleet:
    """A deployment of its own, on a task queue of its own."""

    def __init__(self, temporal: WorkflowEnvironment) -> None:
        self.client = temporal.client
        self.name = f"fleet-{uuid4().hex[:8]}"
        self.queue = f"queue-{self.name}"

    @asynccontextmanager
    async def worker(
        self,
        build: str,
        fleet: FakeFleet,
        *,
        make_current: bool = True,
        workflows: Sequence[type[Any]] = WORKFLOWS,
    ) -> AsyncGenerator[None]:
        """A worker of this build, until the block ends."""
        version = WorkerDeploymentVersion(self.name, build)
        async with Worker(
            self.client,
            task_queue=self.queue,
            workflows=workflows,
            activities=fleet.activities,
            deployment_config=WorkerDeploymentConfig(
                version=version,
                use_worker_versioning=True,
                default_versioning_behavior=VersioningBehavior.PINNED,
            ),
        ):
            await rollout.join(self.client, version, make_current=make_current, task_queue=self.queue)
            yield

    async def start(self, value: Any = X, kind: str = "Pipeline") -> WorkflowHandle[Any, Any]:
        return await self.client.start_workflow(
            kind, value, id=f"{self.name}-{uuid4().hex[:4]}", task_queue=self.queue, result_type=RunResult
        )

    async def build_of(self, handle: WorkflowHandle[Any, Any]) -> str:
        info = (await handle.describe()).raw_description.workflow_execution_info.versioning_info
        return info.deployment_version.build_id

    async def moved(self) -> list[Family]:
        return [
            family
            async for family in move_open_runs(self.client, deployment=self.name, task_queue=self.queue)
        ]


@pytest.fixture
def deployment(temporal: WorkflowEnvironment) -> Fleet:
    return Fleet(temporal)


async def until_called(fleet: FakeFleet, step: str) -> None:
    """Return once the step's measuring has begun."""
    while step not in fleet.measured:
        await asyncio.sleep(0.05)


async def test_old_build_finishes_its_runs_and_the_new_one_takes_new_runs(deployment: Fleet) -> None:
    """A run stays with the build that it began with; a new run goes to the current build."""
    old, new = FakeFleet(hang=HANGS), FakeFleet()
    async with deployment.worker("old", old):
        before = await deployment.start()
        await until_called(old, HANGS)
        async with deployment.worker("new", new):
            after = await deployment.start()
            assert (await after.result()).decision is Decision.GO
            old.release()
            assert (await before.result()).decision is Decision.GO

    assert [await deployment.build_of(handle) for handle in (before, after)] == ["old", "new"]
    assert (old.calls["open_run"], new.calls["open_run"]) == (1, 1)
    assert (old.calls["close_run"], new.calls["close_run"]) == (1, 1)


async def test_run_that_was_started_before_any_worker_goes_to_the_first(deployment: Fleet) -> None:
    """The first build ever makes itself current, so that nothing waits for an operator."""
    early = await deployment.start()

    async with deployment.worker("first", FakeFleet(), make_current=False):
        assert (await early.result()).decision is Decision.GO

    assert await deployment.build_of(early) == "first"


async def test_second_build_waits_until_it_is_wanted(deployment: Fleet) -> None:
    """Without being asked, a build takes no new runs from another."""
    async with (
        deployment.worker("one", FakeFleet()),
        deployment.worker("two", FakeFleet(), make_current=False),
    ):
        run = await deployment.start()
        await run.result()

        assert await rollout.current_build(deployment.client, deployment.name) == "one"
        assert await rollout.polled_builds(deployment.client, deployment.queue) == {"one", "two"}
    assert await deployment.build_of(run) == "one"


async def test_mistyped_type_fails_at_once_with_versioned_workers(deployment: Fleet) -> None:
    """The fallback for unknown types is pinned like any other workflow."""
    async with deployment.worker("only", FakeFleet()):
        run = await deployment.start(kind="Pipelin")
        with pytest.raises(Exception, match="Workflow execution failed"):
            await run.result()

    assert await deployment.build_of(run) == "only"


async def test_runs_of_a_build_that_is_gone_go_on_with_the_current_one(
    deployment: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run and its open children are moved together, and end well; a second look finds nothing to do."""
    old, new = FakeFleet(hang=HANGS), FakeFleet()
    async with deployment.worker("old", old):
        run = await deployment.start()
        await until_called(old, HANGS)
    monkeypatch.setattr(rollout, "_POLL_LASTS", rollout.RPC_TIMEOUT * 0)
    async with deployment.worker("new", new):
        monkeypatch.undo()
        families = await deployment.moved()
        result = await run.result()

    assert [(family.root_id, family.problem) for family in families] == [(run.id, None)]
    assert result.decision is Decision.GO
    assert await deployment.build_of(run) == "new"
