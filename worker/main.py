"""The worker process: the composition root. Read top to bottom, it shows the whole system.

`python -m worker.main` (or `qe worker`) runs it; `qe up` does so as its child.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.common import VersioningBehavior
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.agents import AgentActivities
from activities.memory import MemoryActivities
from activities.runs import RunActivities
from qefleet.agents.installed import installed
from qefleet.contracts.runs import TASK_QUEUE
from qefleet.errors import QeError, SettingsError
from qefleet.fleet.conversations import Conversations
from qefleet.fleet.lifecycle import Lifecycle
from qefleet.fleet.shown_memory import MemoryViews
from qefleet.fleet.steps import Steps
from qefleet.fleet.store import RunStore
from qefleet.flows import all_shipped
from qefleet.graphs.operate import GraphOperations
from qefleet.learning.store import LearningStore
from qefleet.llm.client import ModelClient
from qefleet.llm.models import ModelChoice
from qefleet.memory.artifacts import Artifacts
from qefleet.memory.postgres import PostgresMemory
from qefleet.memory.sweeping import keep_sweeping
from qefleet.sql.database import open_pool
from qefleet.workspace.sandbox import Sandbox
from qefleet.workspace.workspace import Workspaces
from worker import rollout
from worker.build import deployment_version
from worker.embedder import find_embedder
from worker.plugin import qe_plugin
from worker.registry import WORKFLOWS
from worker.search_attributes import register_search_attributes
from worker.settings import PROVIDERS, Settings, resolve_model

_LOG = logging.getLogger("qefleet.worker")


async def connect(settings: Settings, address: str | None = None) -> Client:
    """A client as the Temporal CLI would connect, with the fleet's plug-in.

    Args:
        settings: As loaded; their Temporal profile and environment decide.
        address: Of the embedded server, where the user has named no other.
    """
    config = settings.temporal()
    config.setdefault("target_host", address or "127.0.0.1:7233")
    return await Client.connect(**config, plugins=[qe_plugin()])


@asynccontextmanager
async def running_worker(settings: Settings, client: Client) -> AsyncGenerator[Worker]:
    """A worker with everything that it needs, until the block ends.

    Raises:
        SettingsError: The gateway or the database isn't named.
        SandboxUnavailable: Untrusted code can't be confined here.
    """
    if not (settings.database_url and settings.gateway.url and settings.gateway.secret):
        raise SettingsError(
            "a worker needs QE_DATABASE_URL, QE_GATEWAY_URL and QE_GATEWAY_SECRET; `qe up` sets them"
        )
    pool = await open_pool(settings.database_url)
    try:
        artifacts = Artifacts(pool)
        workspaces = Workspaces(
            data_dir=settings.folders.data,
            sandbox=Sandbox.detect(
                unsafe=settings.unsafe_no_sandbox, scratch_root=settings.folders.data / "scratch"
            ),
            artifacts=artifacts,
            uv=_program("uv"),
        )
        models = ModelChoice(
            default=resolve_model(settings).model,
            providers=frozenset({*(provider.name for provider in PROVIDERS), "ollama"}),
            by_tier=settings.models.tiers,
        )
        catalogue = installed()
        store = RunStore(pool)
        lifecycle = Lifecycle(
            catalogue=catalogue,
            store=store,
            workspaces=workspaces,
            artifacts=artifacts,
            models=models,
            flows=all_shipped(),
            learns=settings.learning,
            notes=("code was run unconfined: --unsafe-no-sandbox",) if settings.unsafe_no_sandbox else (),
        )
        steps = Steps(
            catalogue=catalogue,
            store=store,
            workspaces=workspaces,
            artifacts=artifacts,
            client=ModelClient(gateway_url=settings.gateway.url, secret=settings.gateway.secret),
            models=models,
            operations=GraphOperations(
                pool=pool, gateway_url=settings.gateway.url, secret=settings.gateway.secret
            ),
            learning=LearningStore(pool),
            conversations=Conversations(pool),
            memory=MemoryViews(pool),
            allowed_hosts=settings.allowed_hosts,
        )
        version = deployment_version(settings)
        of_runs, of_agents = RunActivities(lifecycle), AgentActivities(steps)
        of_memory = MemoryActivities(
            lambda project: PostgresMemory(pool, project=project, embedder=find_embedder(settings, project))
        )
        worker = Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=WORKFLOWS,
            activities=[
                of_runs.open_run,
                of_runs.take_snapshot,
                of_runs.prepare_environment,
                of_runs.add_steps,
                of_runs.store_items,
                of_runs.page_of_items,
                of_runs.record_approval,
                of_runs.close_run,
                of_agents.measure,
                of_agents.judge,
                of_agents.operate,
                of_agents.choose_strategy,
                of_agents.choose_depth,
                of_agents.reward_strategy,
                of_agents.propose,
                of_agents.draft,
                of_agents.try_proposal,
                of_agents.conclude,
                of_agents.record,
                of_agents.sum_up,
                of_memory.memory_store,
                of_memory.memory_retrieve,
                of_memory.memory_search,
                of_memory.memory_recall,
                of_memory.memory_delete,
            ],
            deployment_config=WorkerDeploymentConfig(
                version=version,
                use_worker_versioning=True,
                default_versioning_behavior=VersioningBehavior.PINNED,
            ),
            max_concurrent_activities=8,
            graceful_shutdown_timeout=timedelta(seconds=10),
            # A killed worker's cached runs move to another one after this long.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=5),
        )
        sweeping = asyncio.create_task(keep_sweeping(pool))
        async with worker:
            joining = asyncio.create_task(
                rollout.join(client, version, make_current=settings.rollout.make_current)
            )
            try:
                yield worker
            finally:
                joining.cancel()
                sweeping.cancel()
    finally:
        await pool.close()


def _program(name: str) -> Path:
    """A program of our own environment, else the system's."""
    own = Path(sys.executable).with_name(name)
    found = own if own.exists() else shutil.which(name)
    if not found:
        raise SettingsError(f"{name} isn't installed: `make setup` installs it")
    return Path(found)


async def run() -> None:
    """Work until SIGINT or SIGTERM, then finish what can be finished in ten seconds."""
    settings = Settings.load()
    client = await connect(settings)
    try:
        await register_search_attributes(client)
    except RPCError as error:
        _LOG.warning(
            "search attributes not registered (%s): `temporal operator search-attribute create`", error
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with running_worker(settings, client):
        _LOG.info("worker ready on task queue %s", TASK_QUEUE)
        await stop.wait()
        _LOG.info("worker stops")


def main() -> None:
    """Entry point of the worker process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(run())
    except QeError as error:  # its message says what to do; who supervises this shows the log's end
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
