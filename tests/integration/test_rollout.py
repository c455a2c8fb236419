"""Two builds side by side on a real Temporal server, and what becomes of the runs of one that is gone."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from changed import Changed
from fakes import FakeFleet
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkerDeploymentConfig

from qefleet.contracts.runs import Decision, RunResult
from qefleet.contracts.steps import Finding, StepRef
from worker import rollout
from worker.moving import Family, move_open_runs
from worker.registry import WORKFLOWS

X = "pypi:x==1"


class Held(FakeFleet):
    """Answers at once, except that one step's measuring ends when the test says so."""

    def __init__(self, step: str = "test-executor#1", **more: Any) -> None:
        super().__init__(**more)
        self.step = step
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    @activity.defn(name="measure")
    async def measure(self, step: StepRef) -> Finding:
        if step.step == self.step:
            self.reached.set()
            while not self.released.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.1)
        return await super().measure(step)


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
            async for family in move_open_runs(
                self.client, deployment=self.name, task_queue=self.queue, gone_for=timedelta()
            )
        ]


@pytest.fixture
def deployment(temporal: WorkflowEnvironment) -> Fleet:
    return Fleet(temporal)


async def test_old_build_finishes_its_runs_and_the_new_one_takes_new_runs(deployment: Fleet) -> None:
    """A run stays with the build that it began with; a new run goes to the current build."""
    old, new = Held(), FakeFleet()
    async with deployment.worker("old", old):
        before = await deployment.start()
        await old.reached.wait()
        async with deployment.worker("new", new):
            after = await deployment.start()
            assert (await after.result()).decision is Decision.GO
            old.released.set()
            assert (await before.result()).decision is Decision.GO

    assert [await deployment.build_of(run) for run in (before, after)] == ["old", "new"]
    assert [(fleet.calls["open_run"], fleet.calls["record"]) for fleet in (old, new)] == [(1, 4), (1, 4)]


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
        with pytest.raises(WorkflowFailureError) as caught:
            await run.result()

    assert "known: Pipeline" in str(caught.value.cause)


async def test_runs_of_a_build_that_is_gone_go_on_with_the_current_one(deployment: Fleet) -> None:
    """A run in the midst of an activity is moved and ends well."""
    old = Held()
    async with deployment.worker("old", old):
        run = await deployment.start()
        await old.reached.wait()
    async with deployment.worker("new", FakeFleet()):
        families = await deployment.moved()
        result = await run.result()

    assert [str(family) for family in families] == [f"{run.id} began with build old and goes on with new"]
    assert result.decision is Decision.GO
    assert await deployment.build_of(run) == "new"


async def test_open_children_are_moved_with_their_run(deployment: Fleet) -> None:
    """A run that waits for a child, which waits for one of its own, goes on with all of them."""
    old = Held("test-generator#1/0", parts=2)
    async with deployment.worker("old", old):
        run = await deployment.start(kind="FanOutFanIn")
        await old.reached.wait()
    async with deployment.worker("new", FakeFleet(parts=2)):
        [family] = await deployment.moved()
        result = await run.result()

    moved = {member.workflow_id.removeprefix(run.id) for member in family.runs}
    assert {"", "/test-generator#1", "/test-generator#1/0"} <= moved
    assert (family.problem, result.decision) == (None, Decision.GO)


async def test_run_that_does_not_replay_stays_and_is_told_of(deployment: Fleet) -> None:
    """Nothing is done to it; starting it over, as the line says, brings it to its end."""
    async with deployment.worker("old", FakeFleet(), workflows=[Changed]):
        run = await deployment.start()
        await started(run)
    async with deployment.worker("new", FakeFleet()):
        [family] = await deployment.moved()
        build = await deployment.build_of(run)
        assert await temporal_cli(deployment, *words_between_backticks(str(family))[0]) == 0
        again = deployment.client.get_workflow_handle(run.id, result_type=RunResult)
        result = await again.result()

    assert family.problem
    assert "Nondeterminism" in (family.problem.problem or "")
    assert (build, result.decision) == ("old", Decision.GO)


async def test_run_of_an_unversioned_worker_goes_on_by_itself(deployment: Fleet) -> None:
    """What was begun before there were builds is taken on by the current one."""
    old = Held()
    async with Worker(
        deployment.client, task_queue=deployment.queue, workflows=WORKFLOWS, activities=old.activities
    ):
        run = await deployment.start()
        await old.reached.wait()
    async with deployment.worker("new", FakeFleet()):
        families = await deployment.moved()
        result = await run.result()

    assert (families, result.decision) == ([], Decision.GO)
    assert await deployment.build_of(run) == "new"


async def started(run: WorkflowHandle[Any, Any]) -> None:
    """Return once the run's first workflow task is done."""
    async for event in run.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return


def words_between_backticks(text: str) -> list[list[str]]:
    return [shlex.split(command) for command in text.split("`")[1::2]]


async def temporal_cli(deployment: Fleet, *command: str) -> int:
    """Run a `temporal` command as a person would."""
    program, *arguments = command
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name(program),
        *arguments,
        env={"TEMPORAL_ADDRESS": deployment.client.service_client.config.target_host, "HOME": "/nonexistent"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()
