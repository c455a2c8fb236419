"""Brings a database to the schema that this version of the fleet needs.

Numbered SQL files, each applied once, in a transaction of its own, in the order of their numbers. What was
applied is remembered with its SHA-256: a file that was edited afterwards is refused rather than ignored.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from qefleet.errors import SettingsError
from qefleet.sql.database import connect
from qefleet.sql.roles import owns_schema, prepare_roles

_LOCK = 0x7165_666C_6565_74
"""Advisory lock key: "qefleet" in ASCII. One migration at a time for a database."""
_FILE = re.compile(r"^(?P<number>\d{4})_[a-z0-9_]+\.sql$")


class Migration(NamedTuple):
    """One numbered file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Of the file's text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """The shipped files, in order."""
    folder = files("qefleet.sql").joinpath("migrations")
    found = [
        Migration(entry.name, entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if _FILE.match(entry.name)
    ]
    return sorted(found)


async def migrate(dsn: str, *, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what is missing; safe to call from any number of processes at once.

    Returns:
        Names of the files that this call applied.

    Raises:
        SettingsError: The database isn't one that these files made: an applied file was edited, or is unknown
            here (the database belongs to a newer version).
        StoreUnavailable: Postgres can't be reached.
    """
    connection = await connect(dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        # Closing the connection gives the lock back.
        wanted = load_migrations() if migrations is None else migrations
        applied = await _applied(connection)
        missing = _missing(wanted, applied)
        if not await owns_schema(connection):
            if missing:
                raise SettingsError(
                    f"the database lacks {missing[0].name}: `qe migrate` with its owner's QE_DATABASE_URL"
                )
            return []
        for migration in missing:
            await _apply(connection, migration)
        if migrations is None:
            await prepare_roles(connection)
        return [migration.name for migration in missing]
    finally:
        await connection.close()


async def _applied(connection: asyncpg.Connection) -> dict[str, str]:
    if not await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        await connection.execute(
            "CREATE TABLE schema_migrations ("
            "name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    rows = await connection.fetch("SELECT name, sha256 FROM schema_migrations")
    return {row["name"]: row["sha256"] for row in rows}


def _missing(wanted: list[Migration], applied: dict[str, str]) -> list[Migration]:
    if unknown := sorted(applied.keys() - {migration.name for migration in wanted}):
        raise SettingsError(f"the database was migrated by a newer version ({unknown[-1]}); upgrade this one")
    for migration in wanted:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise SettingsError(
                f"{migration.name} was edited after it was applied; restore it, add a new file"
            )
    return [migration for migration in wanted if migration.name not in applied]


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        await connection.execute("SET LOCAL statement_timeout = '10min'")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
        )
