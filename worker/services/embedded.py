"""All services that a user hasn't got running already: what `qe up`, `qe run`, the demo and tests live on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

from temporalio.client import Client
from temporalio.service import RPCError

from qefleet.errors import QeError, SettingsError
from qefleet.sql.embedded import EmbeddedPostgres
from qefleet.sql.migrate import migrate
from worker.moving import move_open_runs
from worker.services.connection import at, connect
from worker.services.gateway import gateway_service
from worker.services.local_model import find_weights, local_model_service
from worker.services.ports import HOST, choose_port
from worker.services.postgres import postgres_service
from worker.services.service import Announce, Event, Service
from worker.services.state import Addresses, DataFolder, Up
from worker.services.supervisor import Supervisor
from worker.services.temporal import temporal_service
from worker.services.worker import worker_service
from worker.settings import GATEWAY_PORT, LOCAL_MODEL_PORT, TEMPORAL_PORT, UI_PORT, ChosenModel, Settings

Part = Literal["postgres", "temporal", "gateway", "worker"]
ALL_PARTS: tuple[Part, ...] = ("postgres", "temporal", "gateway", "worker")
START_LOCAL_MODEL = signal.SIGUSR1
"""Sent to the process that runs the services, it starts the local model's server, whose weights are there."""


class EmbeddedServices:
    """Runs what the user hasn't got: an async context manager, inside which everything answers.

    Only one process does so for a data folder. Killed at any moment, it takes its children along, and
    the next one goes on with the runs that were open.

    Args:
        settings: As loaded.
        model: What runs that name no model are to ask.
        announce: Told what happens, for people.
        command: What this process is, for whoever finds it running: `qe up` or `qe run`.
        parts: What to start; the user's own Postgres, Temporal or gateway is never started.

    Raises:
        AlreadyRunning: On entering: another process holds the data folder.
        SettingsError: On entering: the data folder can't be written, or a port that the user named is taken.
        ServiceFailed: On entering: a service doesn't start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        model: ChosenModel,
        announce: Announce,
        command: str = "qe up",
        parts: Collection[Part] = ALL_PARTS,
    ) -> None:
        self.settings = settings
        self._model = model
        self._announce = announce
        self._command = command
        self._parts = parts
        self._folder = DataFolder(settings.folders.data)
        self._supervisor = Supervisor(logs=settings.folders.logs, announce=announce)
        self._resources = AsyncExitStack()
        self._local_model_start: asyncio.Task[None] | None = None
        self._moving: asyncio.Task[None] | None = None
        self._up: Up | None = None

    @property
    def up(self) -> Up:
        """What runs, and where."""
        if self._up is None:
            raise RuntimeError("the services aren't started: enter the context first")
        return self._up

    async def __aenter__(self) -> Self:
        try:
            self._resources.enter_context(self._folder)
            await self._resources.enter_async_context(self._supervisor)
            await self._start()
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._local_model_start, self._moving):
            if task:
                task.cancel()
        await self._resources.aclose()

    def pids(self) -> dict[str, int]:
        """Process ids of the services that run now."""
        return dict(self._supervisor.pids())

    def kill(self) -> None:
        """End all services at once, without grace: for people who don't want to wait."""
        self._supervisor.kill()

    async def _start(self) -> None:
        plan = self._plan()
        addresses = plan.addresses
        if plan.postgres is None:
            await migrate(addresses.database_url)
        secret_file = self._folder.secret_file(self.settings.gateway.secret)
        self._up = Up(
            pid=os.getpid(),
            command=self._command,
            started_at=datetime.now(UTC),
            model=self._model.model,
            addresses=addresses,
            secret_file=secret_file,
            services={},
        )
        services = self._services(plan, secret=self._up.secret())
        if self._model.model == "local":
            services += await self._local_model(plan.local_port)
        await self._supervisor.start(services)
        self._up = self._up.model_copy(update={"services": self.pids()})
        self._folder.publish(self._up)
        if plan.temporal_ports and "worker" in self._parts:
            self._moving = asyncio.create_task(self._move_open_runs(addresses), name="move open runs")
        self._resources.enter_context(self._on_request(plan.local_port))

    async def _move_open_runs(self, addresses: Addresses) -> None:
        """Take along what an earlier build has left; a user's own Temporal may have workers of that build."""
        try:
            client = await connect(at(addresses.temporal, addresses.namespace))
            async for family in move_open_runs(client):
                self._announce(Event(kind="notice", service="worker", text=str(family)))
        except RPCError as error:
            text = f"not all open runs of earlier builds were looked at: {error.message}"
            self._announce(Event(kind="notice", service="worker", text=text))

    def _plan(self) -> _Plan:
        settings, parts, taken = self.settings, self._parts, set[int]()
        connection = settings.temporal()
        own_temporal = connection.get("target_host")
        namespace = connection.get("namespace") or "default"
        if settings.gateway.url and not settings.gateway.secret:
            raise SettingsError("QE_GATEWAY_SECRET: is needed with QE_GATEWAY_URL, the same as the gateway's")

        def port(named: int | None, variable: str, default: int) -> int:
            chosen = choose_port(named=named, variable=variable, default=default, taken=taken)
            if named is None and chosen != default:
                self._announce(
                    Event(
                        kind="notice",
                        service=variable,
                        text=f"port {default} is in use, {chosen} is taken instead",
                    )
                )
            return chosen

        ports = settings.ports
        temporal_ports: tuple[int, int] | None = None
        if "temporal" in parts and not own_temporal:
            temporal_ports = (
                port(ports.temporal, "QE_TEMPORAL_PORT", TEMPORAL_PORT),
                port(ports.ui, "QE_UI_PORT", UI_PORT),
            )
        gateway_port: int | None = None
        if "gateway" in parts and not settings.gateway.url:
            gateway_port = port(ports.gateway, "QE_GATEWAY_PORT", GATEWAY_PORT)
        local_port = port(ports.local_model, "QE_LOCAL_MODEL_PORT", LOCAL_MODEL_PORT)
        postgres: EmbeddedPostgres | None = None
        if "postgres" in parts and not settings.database_url:
            postgres = EmbeddedPostgres(settings.folders.data / "postgres")
        return _Plan(
            addresses=Addresses(
                temporal=own_temporal or f"{HOST}:{temporal_ports[0] if temporal_ports else TEMPORAL_PORT}",
                namespace=namespace,
                ui=f"http://localhost:{temporal_ports[1]}" if temporal_ports else None,
                gateway=settings.gateway.url or f"http://{HOST}:{gateway_port or GATEWAY_PORT}",
                local_model=settings.models.local_url or f"http://{HOST}:{local_port}",
                database_url=postgres.dsn if postgres else settings.database_url or "",
            ),
            postgres=postgres,
            temporal_ports=temporal_ports,
            gateway_port=gateway_port,
            local_port=local_port,
        )

    def _services(self, plan: _Plan, *, secret: str) -> list[Service]:
        settings, addresses, cwd = self.settings, plan.addresses, self.settings.folders.data
        services: list[Service] = []
        if plan.postgres:

            async def prepare_database() -> None:
                await migrate(addresses.database_url)

            services.append(postgres_service(plan.postgres, cwd=cwd, after_first_start=prepare_database))
        if plan.temporal_ports:
            port, ui_port = plan.temporal_ports
            services.append(
                temporal_service(settings, port=port, ui_port=ui_port, namespace=addresses.namespace)
            )
        if plan.gateway_port:
            services.append(
                gateway_service(
                    settings,
                    port=plan.gateway_port,
                    secret=secret,
                    database_url=addresses.database_url,
                    local_model_url=addresses.local_model,
                    cwd=cwd,
                )
            )
        if "worker" in self._parts:
            services.append(
                worker_service(
                    settings,
                    connect=_Connection(settings, addresses).get,
                    embedded_temporal=(addresses.temporal, addresses.namespace)
                    if plan.temporal_ports
                    else None,
                    model=self._model.model,
                    database_url=addresses.database_url,
                    gateway_url=addresses.gateway,
                    secret=secret,
                    cwd=cwd,
                )
            )
        return services

    async def _local_model(self, port: int) -> list[Service]:
        """Its server, unless there is one already, or nothing to serve."""
        if self.settings.models.local_url or "local-model" in self._supervisor.pids():
            return []
        weights = await find_weights(self.settings)
        if weights is None:
            self._announce(
                Event(kind="notice", service="local-model", text="its weights aren't on this machine")
            )
            return []
        return [
            local_model_service(self.settings, weights=weights, port=port, cwd=self.settings.folders.data)
        ]

    @contextmanager
    def _on_request(self, port: int) -> Generator[None]:
        """Start the local model's server when another process (`qe run --model local`) asks for it."""
        loop = asyncio.get_running_loop()

        def start() -> None:
            if self._local_model_start is None or self._local_model_start.done():
                self._local_model_start = loop.create_task(self._start_local_model(port))

        loop.add_signal_handler(START_LOCAL_MODEL, start)
        try:
            yield
        finally:
            loop.remove_signal_handler(START_LOCAL_MODEL)

    async def _start_local_model(self, port: int) -> None:
        try:
            await self._supervisor.start(await self._local_model(port))
        except QeError as error:
            self._announce(Event(kind="died", service="local-model", text=str(error)))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be started, and where."""

    addresses: Addresses
    postgres: EmbeddedPostgres | None
    temporal_ports: tuple[int, int] | None
    """The server's and the UI's."""
    gateway_port: int | None
    local_port: int


class _Connection:
    """Connects to Temporal when first asked."""

    def __init__(self, settings: Settings, addresses: Addresses) -> None:
        self._settings = settings
        self._addresses = addresses
        self._client: Client | None = None

    async def get(self) -> Client:
        if self._client is None:
            own = self._settings.temporal()
            embedded = at(self._addresses.temporal, self._addresses.namespace)
            self._client = await connect(own if own.get("target_host") else embedded)
        return self._client
