"""The whole system for a test: embedded services, real workers, a scripted provider."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from qefleet.contracts.measured import Measured
from qefleet.contracts.runs import TASK_QUEUE, RunResult
from qefleet.testing.provider import ScriptedProvider
from worker.main import connect
from worker.services.embedded import EmbeddedServices
from worker.settings import Settings, resolve_model

HERE = Path(__file__).parent
PORTS = ("QE_TEMPORAL_PORT", "QE_UI_PORT", "QE_GATEWAY_PORT", "QE_LOCAL_MODEL_PORT")
"""Named, so that two fleets that start at the same moment don't both take the defaults."""


@dataclass(frozen=True)
class RunningFleet:
    """Handles on all parts."""

    client: Client
    provider: ScriptedProvider
    services: EmbeddedServices

    async def execute(self, run_input: Any, *, workflow_id: str, kind: str = "Pipeline") -> RunResult:
        """Start a workflow and wait for its result, over restarts of the server."""
        while True:
            try:
                handle = await self.client.start_workflow(
                    kind,
                    run_input,
                    id=workflow_id,
                    task_queue=TASK_QUEUE,
                    result_type=RunResult,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                )
                return await handle.result()
            except WorkflowAlreadyStartedError:
                return await self.client.get_workflow_handle(workflow_id, result_type=RunResult).result()
            except RPCError:  # the server restarts
                await asyncio.sleep(0.5)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@asynccontextmanager
async def running_fleet(
    data: Path, *, replies: str = f"{HERE / 'planted.py'}:answer", extra: Mapping[str, str] | None = None
) -> AsyncGenerator[RunningFleet]:
    """Everything embedded, on free ports, with `openai/gpt-4.1-mini` answered by a script."""
    async with ScriptedProvider(replies=replies) as provider:
        environment = {
            "QE_DATA_DIR": str(data),
            "QE_MODEL": "openai/gpt-4.1-mini",
            "OPENAI_API_KEY": "sk-test-canary",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
            **(extra or {}),
        }
        with mock.patch.dict(os.environ, environment):
            settings = Settings.load(env_file=None)
        services = EmbeddedServices(settings, model=resolve_model(settings), announce=lambda _: None)
        async with services:
            client = await connect(settings, services.up.addresses.temporal)
            yield RunningFleet(client, provider, services)


def children(module: str) -> list[psutil.Process]:
    """This process' own children that run a Python module, or a program of that name."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any(module in part for part in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def figures(result: RunResult) -> dict[str, float]:
    """All measured numbers of a run, by step and name."""
    return {
        f"{step.step}.{name}": metric.value
        for step in result.steps
        for name, metric in step.measured.metrics.items()
        if isinstance(metric, Measured)
    }


async def reset_and_wait(client: Client, workflow_id: str) -> RunResult:
    """Reset a run to its first workflow task, and wait for the result of the new execution."""
    request = ResetWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id),
        reason="test",
        workflow_task_finish_event_id=3,
        request_id="reset-" + workflow_id,
    )
    response = await client.workflow_service.reset_workflow_execution(request)
    handle = client.get_workflow_handle(workflow_id, run_id=response.run_id, result_type=RunResult)
    return await handle.result()
