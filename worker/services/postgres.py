"""The embedded Postgres as a supervised service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from qefleet.errors import StoreUnavailable
from qefleet.sql.embedded import EmbeddedPostgres, request_stop
from worker.services.service import Service

_ONE_LOOK_S = 1.0


def postgres_service(
    postgres: EmbeddedPostgres, *, cwd: Path, after_first_start: Callable[[], Awaitable[None]]
) -> Service:
    """One server over the data folder; `after_first_start` is the place for migrations."""
    argv, env = postgres.command()

    async def ready(_pid: int) -> bool:
        try:
            await postgres.wait_ready(timeout_s=_ONE_LOOK_S)
        except StoreUnavailable:
            return False
        return True

    return Service(
        name="postgres",
        argv=argv,
        env=env,
        cwd=cwd,
        ready=ready,
        address=f"unix socket in {postgres.socket_dir}",
        prepare=postgres.init,
        after_first_start=after_first_start,
        request_stop=request_stop,
        stop_grace_s=20.0,
    )
