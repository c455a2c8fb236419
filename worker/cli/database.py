"""The database that a command reads: the user's, that of `qe up`, or the embedded one for a moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from qefleet.errors import UsageError

if TYPE_CHECKING:
    import asyncpg

    from worker.services.service import Event
    from worker.settings import Settings


@asynccontextmanager
async def database(settings: Settings) -> AsyncGenerator[asyncpg.Pool]:
    """A pool of connections to it.

    Raises:
        UsageError: There is none yet.
    """
    from qefleet.sql.database import open_pool

    async with database_url(settings) as url, await open_pool(url, max_size=2) as pool:
        yield pool


@asynccontextmanager
async def database_url(settings: Settings) -> AsyncGenerator[str]:
    """Its address; inside the block it is up.

    Raises:
        UsageError: There is none yet.
    """
    from worker.services.state import running

    if settings.database_url:
        yield settings.database_url
    elif up := running(settings.folders.data):
        yield up.addresses.database_url
    elif (settings.folders.data / "postgres" / "cluster").is_dir():
        from worker.services.embedded import EmbeddedServices
        from worker.settings import resolve_model

        async with EmbeddedServices(
            settings,
            model=resolve_model(settings),
            announce=_quiet,
            command="qe, reading the database",
            parts=("postgres",),
        ) as services:
            yield services.up.addresses.database_url
    else:
        raise UsageError(
            f"nothing is recorded yet in {settings.folders.data}: `qe run pipeline .` does a first run; "
            "QE_DATABASE_URL or QE_DATA_DIR point elsewhere"
        )


def sql(name: str) -> str:
    """A statement of `queries.sql`."""
    from qefleet.sql.queries import parse_queries

    return parse_queries(files("worker.cli").joinpath("queries.sql").read_text("utf-8"))[name]


def _quiet(_event: Event) -> None:
    """A database that starts for a moment is nothing to tell."""
