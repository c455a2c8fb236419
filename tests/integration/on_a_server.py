"""Workflows on a real Temporal server, with activities that answer at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fakes import FakeFleet
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from qefleet.contracts.runs import TASK_QUEUE, RunResult
from worker.plugin import qe_plugin
from worker.registry import WORKFLOWS

SUGGESTED_AFTER = 400
"""Events after which this server suggests to continue as new: expansions of a hundred items do, too."""

Handle = WorkflowHandle[Any, RunResult]


@asynccontextmanager
async def working(temporal: WorkflowEnvironment, fleet: FakeFleet) -> AsyncGenerator[str]:
    """A worker of the fleet on a task queue of its own."""
    queue = f"{TASK_QUEUE}-{uuid4().hex[:8]}"
    async with Worker(temporal.client, task_queue=queue, workflows=WORKFLOWS, activities=fleet.activities):
        yield queue


async def start(temporal: WorkflowEnvironment, queue: str, value: Any, kind: str = "Pipeline") -> Handle:
    """Start a run, as a user would."""
    return await temporal.client.start_workflow(
        kind, value, id=f"test-{uuid4().hex[:8]}", task_queue=queue, result_type=RunResult
    )


async def tell(handle: Handle, update: str, argument: Any = None) -> Any:
    """Send an update, as `temporal workflow update execute` does."""
    arguments = [] if argument is None else [argument]
    return await handle.execute_update(update, args=arguments)  # pyright: ignore[reportUnknownMemberType] - a bare generic of its own


async def replays(handle: Handle) -> bool:
    """The history is one that today's code could have written."""
    history = await handle.fetch_history()
    await Replayer(workflows=WORKFLOWS, plugins=[qe_plugin()]).replay_workflow(history)
    return bool(history.events)
