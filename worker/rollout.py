"""How a build of the fleet joins those that are there: which of them new runs go to.

A run is pinned to the build that it began with; only new runs go to the current one.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from qefleet.contracts.runs import TASK_QUEUE
from worker.build import DEPLOYMENT

RPC_TIMEOUT = timedelta(seconds=5)
POLL_LASTS = timedelta(seconds=75)
"""A worker asks again at least this often; the server still lists one for minutes after its end."""
UNVERSIONED = ""
"""The build of workers that tell none."""

_LOG = logging.getLogger("qefleet.rollout")
_FIRST_PAUSE_S = 0.2
_LAST_PAUSE_S = 5.0
_HOPELESS = {
    RPCStatusCode.UNIMPLEMENTED,
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNAUTHENTICATED,
}


async def join(
    client: Client, version: WorkerDeploymentVersion, *, make_current: bool, task_queue: str = TASK_QUEUE
) -> None:
    """Have new runs go to this build, if that is wanted, or if there is nobody else that they could go to.

    Without a current build a new run waits, for ever if need be, so the first build ever makes itself
    current. Where another one is, the choice is its operator's. Safe to repeat; needs a worker of this build
    that polls or is about to.

    Args:
        client: Of the worker's namespace.
        version: This build.
        make_current: Take over from another build, too.
        task_queue: What the worker polls.
    """
    by_hand = (
        f"`temporal worker deployment set-current-version --deployment-name {version.deployment_name} "
        f"--build-id {version.build_id}`"
    )
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            if await _joined(client, version, make_current=make_current, task_queue=task_queue):
                _LOG.info("new runs go to this build, %s", version.build_id)
            else:
                _LOG.warning("new runs go to another build than this; %s sends them here", by_hand)
        except RPCError as error:  # above all NOT_FOUND, until the server has noticed that the worker polls
            if error.status in _HOPELESS:
                _LOG.warning("%s isn't current (%s); %s", version.build_id, error.message, by_hand)
                return
            if pause_s == _LAST_PAUSE_S:
                _LOG.warning("%s isn't current yet (%s)", version.build_id, error.message)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)


async def current_build(client: Client, deployment: str = DEPLOYMENT) -> str | None:
    """The build that new runs go to; None where there is none.

    Raises:
        RPCError: The server doesn't answer.
    """
    try:
        found, _ = await _describe(client, deployment)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return found.routing_config.current_deployment_version.build_id or None


async def polled_builds(
    client: Client, task_queue: str = TASK_QUEUE, *, within: timedelta = POLL_LASTS
) -> set[str]:
    """Builds that have a worker; `UNVERSIONED` stands for workers that tell none.

    Args:
        client: Of their namespace.
        task_queue: What they poll.
        within: How long ago a worker may have asked last.

    Raises:
        RPCError: The server doesn't answer.
    """
    found = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        ),
        timeout=RPC_TIMEOUT,
    )
    oldest = datetime.now(UTC) - within
    return {
        poller.deployment_options.build_id
        for poller in found.pollers
        if poller.last_access_time.ToDatetime(UTC) > oldest
    }


async def _joined(
    client: Client, version: WorkerDeploymentVersion, *, make_current: bool, task_queue: str
) -> bool:
    found, token = await _describe(client, version.deployment_name)
    current = found.routing_config.current_deployment_version.build_id
    if current == version.build_id:
        return True
    if not make_current and (current or UNVERSIONED in await polled_builds(client, task_queue)):
        return False
    await client.workflow_service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace,
            deployment_name=version.deployment_name,
            build_id=version.build_id,
            conflict_token=token,
            identity=client.identity,
        ),
        timeout=RPC_TIMEOUT,
    )
    return True


async def _describe(client: Client, deployment: str) -> tuple[WorkerDeploymentInfo, bytes]:
    found = await client.workflow_service.describe_worker_deployment(
        DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment),
        timeout=RPC_TIMEOUT,
    )
    return found.worker_deployment_info, found.conflict_token
