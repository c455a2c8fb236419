"""Who may do what in the database.

The *owner* migrates. The *runtime role* `qe_runtime` is what workers and commands act as: it reads and
writes rows, sees the memory of the project that it names, and can't create, drop or read files. A *confined
role* sees one project's memory, whatever it sets, and nothing else.

An owner who may not make roles is its own runtime: row-level security holds for it all the same.
"""

from __future__ import annotations

import contextlib
import logging
from importlib.resources import files

import asyncpg

from qefleet.errors import SettingsError
from qefleet.sql.queries import parse_queries

_SQL = parse_queries(files("qefleet.sql").joinpath("roles.sql").read_text("utf-8"))
_log = logging.getLogger(__name__)


async def prepare_roles(connection: asyncpg.Connection) -> None:
    """Make the runtime role and give it its rights, as far as this connection's user may."""
    with contextlib.suppress(asyncpg.PostgresError):
        await connection.execute(_SQL["install_vectors"])
    if not await _runtime_role(connection):
        _log.info("no role qe_runtime: this user may not make it, and acts itself")
        return
    await connection.execute(_SQL["grant_rows"])
    for name in ("close_schema", "temporary_tables"):
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(_SQL[name])


async def become_runtime(connection: asyncpg.Connection) -> None:
    """Act as the runtime role from here on, where there is one and this user may."""
    if await connection.fetchval(_SQL["may_become"]):
        await connection.execute(_SQL["become"])


async def owns_schema(connection: asyncpg.Connection) -> bool:
    """Whether this connection's user may migrate."""
    return await connection.fetchval(_SQL["owns_schema"])


async def confine(connection: asyncpg.Connection, role: str, project: str) -> None:
    """Let a role that exists see one project's memory, and only that.

    Raises:
        SettingsError: There is no such role, or this user may not do that.
    """
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('qe.role', $1, true)", role)
            await connection.execute(_SQL["grant_memory"])
            await connection.execute(_SQL["confine"], role, project)
    except asyncpg.UndefinedObjectError as error:
        raise SettingsError(f"the database has no role {role!r}: let an administrator make it") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SettingsError(
            "only the owner of the fleet's tables can confine roles: use its QE_DATABASE_URL"
        ) from error


async def _runtime_role(connection: asyncpg.Connection) -> bool:
    if await connection.fetchval(_SQL["role_exists"]):
        return True
    if not await connection.fetchval(_SQL["may_create_roles"]):
        return False
    # Another database of the same server may make it in this moment.
    with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        await connection.execute(_SQL["create_role"])
    return True
