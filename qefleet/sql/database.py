"""Connections to Postgres, and how long to insist when it is away for a moment.

Every statement that is retried must be idempotent: a connection that breaks after the commit looks the same
as one that breaks before it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
from pydantic_core import to_jsonable_python

from qefleet.errors import SettingsError, StoreUnavailable
from qefleet.sql.roles import become_runtime

COMMAND_TIMEOUT_S = 30
"""Without it a network that swallows packets holds a statement for ever: cancelling it waits as well."""
CONNECT_TIMEOUT_S = 10
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0
INSIST_S = 60.0

T = TypeVar("T")
_log = logging.getLogger(__name__)

_AWAY = (
    OSError,  # refused, reset, and a missing socket file while the server restarts
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


async def open_pool(dsn: str, *, max_size: int = 10) -> asyncpg.Pool:
    """Open a pool whose JSON columns take and give Python values (see `encode_json`).

    Its connections act as the runtime role where there is one (see `qefleet.sql.roles`). It recovers by
    itself when Postgres restarts. Close it, or use it as a context manager.

    Raises:
        StoreUnavailable: Postgres can't be reached, even after some insisting.
        SettingsError: It is reached and refuses us: user, password or database are wrong.
    """

    async def attempt() -> asyncpg.Pool:
        return await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=max_size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            init=_prepare_runtime,
        )

    await (await connect(dsn)).close()
    return await _translated(attempt)


async def connect(dsn: str) -> asyncpg.Connection:
    """One connection outside a pool, without a time limit on its statements; errors as for `open_pool`."""

    async def attempt() -> asyncpg.Connection:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
        await _prepare(connection)
        return connection

    return await _translated(attempt)


async def retrying(work: Callable[[], Awaitable[T]], *, total_s: float = INSIST_S) -> T:
    """Do idempotent work on Postgres, again while it is away: full jitter from 50 ms to 2 s.

    Args:
        work: Called anew for each try; takes its connection from the pool inside.
        total_s: Seconds after which no further try is made.

    Raises:
        StoreUnavailable: It was away all this time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + total_s
    ceiling = PAUSE_MIN_S
    while True:
        try:
            return await work()
        except (*_AWAY, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if not _is_away(error):
                raise
            pause = random.uniform(PAUSE_MIN_S / 2, ceiling)  # noqa: S311 - jitter, not a secret
            if loop.time() + pause > deadline:
                raise StoreUnavailable(
                    f"Postgres has been out of reach for {total_s:.0f} s ({type(error).__name__}); "
                    "check that it runs and that QE_DATABASE_URL is right"
                ) from error
            _log.debug("Postgres is away (%s), trying again", type(error).__name__)
        await asyncio.sleep(pause)
        ceiling = min(PAUSE_MAX_S, ceiling * 2)


def encode_json(value: Any) -> str:
    """JSON that a `jsonb` column takes; Pydantic values, dates and the like as Pydantic writes them.

    NUL and lone surrogates, which `jsonb` refuses, become U+FFFD: keep raw text in `bytea` where it matters.

    Raises:
        ValueError: A number is NaN or infinite, or a value has no JSON form.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=to_jsonable_python)
    if "\\u0000" not in text and text.isprintable():
        return text
    return json.dumps(_mended(json.loads(text)), ensure_ascii=False, allow_nan=False)


def _mended(value: Any) -> Any:
    match value:
        case str():
            return (
                value.replace("\x00", "\ufffd")
                .encode("utf-16-le", "surrogatepass")
                .decode("utf-16-le", "replace")
            )
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - parsed JSON
        case list():
            return [_mended(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - parsed JSON
        case _:
            return value


def _is_away(error: BaseException) -> bool:
    """Whether Postgres is away, in asyncpg's words where it has no class for it.

    A connection that is lost inside a transaction shows as the failure to roll back, which hides the loss.
    """
    if isinstance(error, asyncpg.InternalClientError):
        return "cannot switch to state" in str(error)
    if isinstance(error, asyncpg.InterfaceError):
        return "connection is closed" in str(error)
    return True


async def _translated(attempt: Callable[[], Awaitable[T]]) -> T:
    try:
        return await retrying(attempt, total_s=10)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise SettingsError(f"Postgres refuses the connection: {error}; check QE_DATABASE_URL") from error
    except (ValueError, asyncpg.InterfaceError) as error:
        # The message of the parser may repeat the URL, and the URL may hold a password.
        raise SettingsError(
            "QE_DATABASE_URL isn't a Postgres URL (postgresql://user:password@host/name)"
        ) from error


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=encode_json, decoder=json.loads)


async def _prepare_runtime(connection: asyncpg.Connection) -> None:
    await _prepare(connection)
    await become_runtime(connection)
