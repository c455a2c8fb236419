"""Finds the services that a run needs, or starts them for as long as it goes on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from temporalio.client import Client

from qefleet.errors import LocalModelUnavailable, UsageError
from worker.cli.up import announcer
from worker.plugin import qe_plugin
from worker.services.connection import at, connect
from worker.services.embedded import START_LOCAL_MODEL, EmbeddedServices
from worker.services.health import answers
from worker.services.state import AlreadyRunning, Up, is_held, running

if TYPE_CHECKING:
    from rich.console import Console

    from worker.settings import ChosenModel, Settings

_STARTING_S = 90.0
_LOCAL_MODEL_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Session:
    """A connection to Temporal, and what else is known of the system behind it."""

    client: Client
    address: str
    ui: str | None
    """URL, where it is ours."""
    database_url: str | None = field(repr=False)
    up: Up | None
    """Who runs the services; None for the user's own."""
    owned: EmbeddedServices | None
    """The services, where this process runs them: they end with it."""

    def run_url(self, workflow_id: str, run_id: str | None) -> str | None:
        """The run's page in the Temporal UI."""
        if self.ui is None:
            return None
        return f"{self.ui}/namespaces/{self.client.namespace}/workflows/{workflow_id}/{run_id or ''}".rstrip(
            "/"
        )


@asynccontextmanager
async def open_session(
    settings: Settings, model: ChosenModel, *, console: Console, may_start: bool = True
) -> AsyncGenerator[Session]:
    """Connect to the user's Temporal, to a running `qe up`, or to services started for this block.

    Raises:
        UsageError: Nothing runs and `may_start` is false, or the user's Temporal doesn't answer.
        QeError: The services don't start.
    """
    config = settings.temporal()
    if address := config.get("target_host"):
        try:
            client = await connect(config, plugins=[qe_plugin()])
        except RuntimeError as error:  # the bridge's only class for it
            raise UsageError(
                f"no Temporal answers at {address}: start it, or unset TEMPORAL_ADDRESS"
            ) from error
        up = running(settings.folders.data)
        yield Session(
            client=client,
            address=address,
            ui=None,
            database_url=settings.database_url or (up.addresses.database_url if up else None),
            up=up,
            owned=None,
        )
        return
    if found := await _running(settings):
        yield await _session(found, owned=None)
        return
    if not may_start:
        raise UsageError("nothing is running here: start `qe up` in another terminal first")
    console.print("no `qe up` is running: starting the services for the time of this run")
    services = EmbeddedServices(settings, model=model, announce=announcer(console), command="qe run")
    try:
        await services.__aenter__()
    except AlreadyRunning:  # another one was quicker
        if found := await _running(settings):
            yield await _session(found, owned=None)
            return
        raise
    try:
        yield await _session(services.up, owned=services)
    finally:
        console.print("stopping the services")
        await services.__aexit__(None, None, None)


async def have_local_model_served(session: Session) -> None:
    """Ask whoever runs the services to serve the local model, and wait until it does.

    Raises:
        LocalModelUnavailable: It isn't served in time.
    """
    if session.up is None:
        return
    health = f"{session.up.addresses.local_model}/health"
    if await answers(health):
        return
    os.kill(session.up.pid, START_LOCAL_MODEL)
    deadline = time.monotonic() + _LOCAL_MODEL_S
    while not await answers(health):
        if time.monotonic() > deadline:
            log = session.up.secret_file.parent / "logs" / "local-model.log"
            raise LocalModelUnavailable(f"the local model's server doesn't start; see {log}")
        await asyncio.sleep(0.5)


async def _running(settings: Settings) -> Up | None:
    """The running services; waits for those that are just starting, or stopping."""
    deadline = time.monotonic() + _STARTING_S
    while is_held(settings.folders.data):
        if up := running(settings.folders.data):
            return up
        if time.monotonic() > deadline:
            raise AlreadyRunning(None)
        await asyncio.sleep(0.5)
    return None


async def _session(up: Up, *, owned: EmbeddedServices | None) -> Session:
    addresses = up.addresses
    client = await connect(at(addresses.temporal, addresses.namespace), plugins=[qe_plugin()])
    return Session(
        client=client,
        address=addresses.temporal,
        ui=addresses.ui,
        database_url=addresses.database_url,
        up=up,
        owned=owned,
    )
