"""The worker process, as a supervised service."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from qefleet.contracts.runs import TASK_QUEUE
from worker.rollout import current_build
from worker.services.environment import worker_environment
from worker.services.service import Service
from worker.settings import Settings

_ONE_LOOK_S = 3.0
_OURS = {
    "TEMPORAL_CONFIG_FILE": "/dev/null",  # a profile that was made for another server doesn't fit ours
}


def worker_service(
    settings: Settings,
    *,
    connect: Callable[[], Awaitable[Client]],
    embedded_temporal: tuple[str, str] | None,
    model: str,
    database_url: str,
    gateway_url: str,
    secret: str,
    cwd: Path,
) -> Service:
    """A worker of the fleet's task queue.

    Args:
        settings: As loaded.
        connect: Connects to the same Temporal as the worker does.
        embedded_temporal: Address and namespace of ours; None for the user's own.
        model: What runs that name none are to ask.
        database_url: Postgres.
        gateway_url: The gateway.
        secret: What the gateway's callers present.
        cwd: Where it runs.
    """
    env = worker_environment(settings)
    makes_current = settings.rollout.make_current or embedded_temporal is not None
    if embedded_temporal:
        address, namespace = embedded_temporal
        env = {k: v for k, v in env.items() if not k.startswith("TEMPORAL_")} | _OURS
        env |= {"TEMPORAL_ADDRESS": address, "TEMPORAL_NAMESPACE": namespace}
    env |= {
        "QE_DATABASE_URL": database_url,
        "QE_GATEWAY_URL": gateway_url,
        "QE_GATEWAY_SECRET": secret,
        "QE_MODEL": model,
        "QE_MAKE_CURRENT": "1" if makes_current else "0",
        "QE_DATA_DIR": str(settings.folders.data),
        "QE_CACHE_DIR": str(settings.folders.cache),
    }

    async def ready(pid: int) -> bool:
        return await _serves(connect, pid, current=makes_current)

    return Service(
        name="worker",
        argv=[sys.executable, "-P", "-m", "worker.main"],
        env=env,
        cwd=cwd,
        ready=ready,
        address=f"task queue {TASK_QUEUE}",
        stage=2,
        stop_grace_s=20.0,
    )


async def _serves(connect: Callable[[], Awaitable[Client]], pid: int, *, current: bool) -> bool:
    """Whether the worker with this process id takes tasks, those of new runs too if it is to be current."""
    try:
        async with asyncio.timeout(
            2 * _ONE_LOOK_S
        ):  # a call that ends by its own time-out can be told and left
            client = await connect()
            queue = await client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=client.namespace,
                    task_queue=TaskQueue(name=TASK_QUEUE),
                    task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                ),
                timeout=timedelta(seconds=_ONE_LOOK_S),
            )
            # Its identity begins with its process id.
            builds = {
                p.deployment_options.build_id for p in queue.pollers if p.identity.startswith(f"{pid}@")
            }
            return bool(builds) and (not current or await current_build(client) in builds)
    except (RPCError, RuntimeError, TimeoutError):  # RuntimeError: the bridge couldn't connect
        return False
