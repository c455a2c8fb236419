"""Connections to Temporal for the command line and the supervisor, which speak for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from temporalio.client import Client, Plugin
from temporalio.envconfig import ClientConnectConfig
from temporalio.runtime import Runtime, TelemetryConfig


async def connect(config: ClientConnectConfig, *, plugins: Sequence[Plugin] = ()) -> Client:
    """A client that doesn't log: the SDK's own log goes to stdout, amid the JSON that programs read.

    Args:
        config: As `Settings.temporal` gives it, or `at`.
        plugins: For the client.

    Raises:
        RuntimeError: The server doesn't answer (the SDK has no class of its own for that).
    """
    return await Client.connect(**config, plugins=plugins, runtime=quiet_runtime())


def at(address: str, namespace: str) -> ClientConnectConfig:
    """How to connect to an embedded server."""
    return ClientConnectConfig(target_host=address, namespace=namespace)


@cache
def quiet_runtime() -> Runtime:
    """One that doesn't log."""
    return Runtime(telemetry=TelemetryConfig(logging=None))
