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
        return await _apply_missing(connection, load_migrations() if migrations is None else migrations)
    finally:
        await connection.close()


async def _apply_missing(connection: asyncpg.Connection, migrations: list[Migration]) -> list[str]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        "name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    rows = await connection.fetch("SELECT name, sha256 FROM schema_migrations")
    applied: dict[str, str] = {row["name"]: row["sha256"] for row in rows}
    if unknown := sorted(applied.keys() - {migration.name for migration in migrations}):
        raise SettingsError(f"the database was migrated by a newer version ({unknown[-1]}); upgrade this one")
    done: list[str] = []
    for migration in migrations:
        if migration.name in applied:
            if applied[migration.name] != migration.sha256:
                raise SettingsError(
                    f"{migration.name} was edited after it was applied; restore it, add a new file"
                )
            continue
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute("SET LOCAL statement_timeout = '10min'")
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)",
                migration.name,
                migration.sha256,
            )
        done.append(migration.name)
    return done
