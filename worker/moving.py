"""Open runs of builds that nobody runs any more: those that today's code can go on with are moved to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionOptionsRequest
from temporalio.client import Client, WorkflowHistory
from temporalio.common import PinnedVersioningOverride, SearchAttributeKey, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from qefleet.contracts.runs import TASK_QUEUE
from worker.build import DEPLOYMENT
from worker.replay import Replayed, replay
from worker.rollout import POLL_LASTS, RPC_TIMEOUT, UNVERSIONED, current_build, polled_builds

OPEN_RUNS = 'ExecutionStatus = "Running" AND TaskQueue = "{task_queue}"'
"""Visibility query for the open runs of a task queue."""

_VERSION = SearchAttributeKey.for_keyword("TemporalWorkerDeploymentVersion")


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """An open workflow execution, and what it runs on."""

    workflow_id: str
    run_id: str
    root_id: str
    build: str
    """`UNVERSIONED` for one that is pinned to none: it goes on with the current build by itself."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A run with its child workflows, as far as they are open and their build is gone."""

    root_id: str
    runs: Sequence[OpenRun]
    target: str
    """The current build."""
    problem: Replayed | None
    """Why it was left where it is; None when it has been moved."""

    def __str__(self) -> str:
        """What happened to it, in one line."""
        build = self.runs[0].build or "an unversioned worker"
        if self.problem is None:
            return f"{self.root_id} began with build {build} and goes on with {self.target}"
        return (
            f"{self.root_id} began with build {build} and can't go on with {self.target} "
            f"({self.problem.workflow_id}: {self.problem.problem}): run that build's worker until it ends, "
            f"or start it over with `temporal workflow reset --type FirstWorkflowTask --reason upgrade "
            f"--workflow-id {self.root_id}`, or `temporal workflow terminate --workflow-id {self.root_id}`"
        )


async def move_open_runs(
    client: Client,
    *,
    deployment: str = DEPLOYMENT,
    task_queue: str = TASK_QUEUE,
    gone_for: timedelta = POLL_LASTS,
) -> AsyncGenerator[Family]:
    """Pin open runs whose build has no worker to the current build, if they replay with this process' code.

    A run moves with all its open children or not at all. Those that were started by unversioned workers
    need no moving and are only told about where they don't replay.

    Args:
        client: With the fleet's plug-in or without.
        deployment: Name of the fleet's worker deployment.
        task_queue: Its task queue.
        gone_for: A build whose workers have asked for nothing for so long has none any more.

    Raises:
        RPCError: The server doesn't answer; what was moved until then stays moved.
    """
    target = await current_build(client, deployment)
    if target is None:
        return
    polled = await polled_builds(client, task_queue, within=gone_for) - {UNVERSIONED} | {target}
    gone = [run async for run in _open_runs(client, deployment, task_queue) if run.build not in polled]

    async def histories() -> AsyncGenerator[WorkflowHistory]:
        for run in gone:
            yield await client.get_workflow_handle(run.workflow_id, run_id=run.run_id).fetch_history()

    families: dict[str, list[tuple[OpenRun, Replayed]]] = defaultdict(list)
    if gone:
        position = 0
        async for replayed in replay(histories()):
            families[gone[position].root_id].append((gone[position], replayed))
            position += 1
    for root_id, members in families.items():
        problem = next((replayed for _, replayed in members if not replayed.compatible), None)
        pinned = [run for run, _ in members if run.build != UNVERSIONED]
        if problem is None:
            for run in pinned:
                await _pin(client, run, WorkerDeploymentVersion(deployment, target))
        if pinned or problem:
            runs = pinned or [run for run, _ in members]
            yield Family(root_id=root_id, runs=runs, target=target, problem=problem)


async def _open_runs(client: Client, deployment: str, task_queue: str) -> AsyncGenerator[OpenRun]:
    async for run in client.list_workflows(OPEN_RUNS.format(task_queue=task_queue)):
        name, _, build = (run.typed_search_attributes.get(_VERSION) or "").partition(":")
        if name in ("", deployment):
            yield OpenRun(
                workflow_id=run.id,
                run_id=run.run_id,
                root_id=run.root_id or run.id,
                build=build or UNVERSIONED,
            )


async def _pin(client: Client, run: OpenRun, version: WorkerDeploymentVersion) -> None:
    # Not `OneTimeVersioningOverride`, which only servers from 1.32 on know.
    override = PinnedVersioningOverride(version)._to_proto()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the SDK has no call for this yet
    request = UpdateWorkflowExecutionOptionsRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=run.workflow_id, run_id=run.run_id),
        workflow_execution_options=WorkflowExecutionOptions(versioning_override=override),
        update_mask=FieldMask(paths=["versioning_override"]),
        identity=client.identity,
    )
    try:
        await client.workflow_service.update_workflow_execution_options(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # it has ended meanwhile
            raise
