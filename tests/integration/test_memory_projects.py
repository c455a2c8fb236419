"""Projects kept apart by the database, whoever asks and however."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from qefleet.errors import SettingsError
from qefleet.memory.postgres import PostgresMemory, projects
from qefleet.sql.database import open_pool
from qefleet.sql.migrate import migrate
from qefleet.sql.roles import confine
from qefleet.testing.postgres import ThrowAwayPostgres

TABLES = ("memory", "memory_history", "memory_vectors")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with await open_pool(database) as pool:
        for project in ("one", "two"):
            memory = PostgresMemory(pool, project=project)
            await memory.store("k", project)
            await memory.store("k", f"{project} again")
        yield pool


@pytest.fixture
async def confined(database: str, pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A login of its own, confined to the project `two`."""
    role = f"role_{uuid4().hex}"
    assert await projects(pool) == {"one": 1, "two": 1}
    owner = await asyncpg.connect(database)
    await owner.execute(f"CREATE ROLE {role} LOGIN")
    await confine(owner, role, "two")
    connection = await asyncpg.connect(database.replace("//qe@", f"//{role}@"))
    yield connection
    await connection.close()
    await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await owner.close()


@pytest.mark.parametrize("setting", [None, "one", "two", "*"])
async def test_confined_role_sees_its_own_whatever_it_sets(
    confined: asyncpg.Connection, setting: str | None
) -> None:
    """Zero rows of another project, in each table, by reading, changing and deleting."""
    if setting:
        await confined.execute("SELECT set_config('qe.project', $1, false)", setting)

    seen = {table: await confined.fetch(f"SELECT DISTINCT project FROM {table}") for table in TABLES}
    deleted = await confined.execute("DELETE FROM memory WHERE project = 'one'")
    changed = await confined.execute("UPDATE memory_history SET value = '0' WHERE project <> 'two'")

    assert {table: [row["project"] for row in rows] for table, rows in seen.items()} == {
        "memory": ["two"], "memory_history": ["two"], "memory_vectors": []
    }  # fmt: skip
    assert (deleted, changed) == ("DELETE 0", "UPDATE 0")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO memory (project, key, value) VALUES ('one', 'x', '1')",
        "UPDATE memory SET project = 'one'",
        "INSERT INTO memory_roles VALUES (current_user, 'one')",
        "UPDATE memory_roles SET project = 'one'",
        "CREATE TEMP TABLE memory_roles AS SELECT current_user AS role, 'one' AS project",
        "CREATE FUNCTION current_setting(text, boolean) RETURNS text LANGUAGE sql RETURN 'one'",
        "ALTER TABLE memory DISABLE ROW LEVEL SECURITY",
        "SET ROLE qe_runtime",
        "SELECT * FROM runs",
        "SELECT * FROM steps",
        "SELECT * FROM model_calls",
    ],
)
async def test_confined_role_finds_no_way_round(confined: asyncpg.Connection, statement: str) -> None:
    """Writing for another project, giving itself one, standing in for a table, other tables."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await confined.execute(statement)


async def test_row_security_off_is_an_error_and_no_way_round(confined: asyncpg.Connection) -> None:
    """Postgres refuses the query rather than to answer it without."""
    await confined.execute("SET row_security = off")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await confined.fetch("SELECT * FROM memory")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE x (y int)",
        "CREATE TEMP TABLE x (y int)",
        "CREATE SCHEMA x",
        "CREATE FUNCTION x() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE ROLE x",
        "DROP TABLE memory",
        "ALTER TABLE memory DISABLE ROW LEVEL SECURITY",
        "TRUNCATE memory",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "COPY memory FROM '/etc/passwd'",
        "COPY memory TO PROGRAM 'cat'",
        "INSERT INTO memory_roles VALUES ('qe_runtime', 'one')",
        "DELETE FROM schema_migrations",
    ],
)
async def test_runtime_role_can_not_create_drop_or_read_files(pool: asyncpg.Pool, statement: str) -> None:
    """What workers and commands act as."""
    assert await pool.fetchval("SELECT current_user") == "qe_runtime"

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(statement)


async def test_runtime_role_sees_what_it_has_named(pool: asyncpg.Pool) -> None:
    """Nothing before, one project in a transaction, nothing afterwards; all of them to read."""
    async with pool.acquire() as connection:
        before = await connection.fetchval("SELECT count(*) FROM memory")
        async with connection.transaction():
            await connection.execute("SELECT set_config('qe.project', 'one', true)")
            inside = await connection.fetch("SELECT project, value FROM memory")
        after = await connection.fetchval("SELECT count(*) FROM memory")
        await PostgresMemory(pool, project="two").retrieve("k")
        async with connection.transaction():
            await connection.execute("SELECT set_config('qe.project', '*', true)")
            deleted = await connection.execute("DELETE FROM memory")

    assert (before, [tuple(row.values()) for row in inside], after) == (0, [("one", "one again")], 0)
    assert await projects(pool) == {"one": 1, "two": 1}
    assert deleted == "DELETE 0"


async def test_nothing_is_left_on_a_connection(pool: asyncpg.Pool) -> None:
    """Each statement names its project for itself."""
    for project in ("one", "two") * 20:
        entry = await PostgresMemory(pool, project=project).retrieve("k")

        assert entry
        assert entry.project == project
        assert entry.value == f"{project} again"
        assert await pool.fetchval("SELECT count(*) FROM memory") == 0


async def test_owner_without_rights_to_make_roles_is_held_too(postgres: ThrowAwayPostgres) -> None:
    """A plain owner migrates, acts itself, and sees one project at a time."""
    role = f"owner_{uuid4().hex}"
    async with postgres.database(migrated=False) as admin_dsn:
        admin = await asyncpg.connect(admin_dsn)
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f'CREATE ROLE {role} LOGIN; ALTER DATABASE "{name}" OWNER TO {role}')
        dsn = admin_dsn.replace("//qe@", f"//{role}@")

        await migrate(dsn)
        async with await open_pool(dsn) as pool:
            user = await pool.fetchval("SELECT current_user")
            await PostgresMemory(pool, project="one").store("k", 1)
            seen = await pool.fetchval("SELECT count(*) FROM memory")
            found = await PostgresMemory(pool, project="two").search("*")

        await admin.close()
    await _drop(postgres, role)
    assert (user, seen, found) == (role, 0, [])


async def test_login_of_the_runtime_role_leaves_the_schema_to_its_owner(
    postgres: ThrowAwayPostgres, database: str
) -> None:
    """A worker's own login is enough on a migrated database, and is told what to do on another."""
    role = f"worker_{uuid4().hex}"
    admin = await asyncpg.connect(database)
    await admin.execute(f"CREATE ROLE {role} LOGIN; GRANT qe_runtime TO {role}")
    dsn = database.replace("//qe@", f"//{role}@")

    assert await migrate(dsn) == []
    async with await open_pool(dsn) as pool:
        await PostgresMemory(pool).store("k", 1)
    await admin.execute("DELETE FROM schema_migrations WHERE name = '0004_memory.sql'")
    with pytest.raises(SettingsError, match=r"0004_memory.*owner"):
        await migrate(dsn)

    await admin.close()
    await _drop(postgres, role)


async def test_an_hour_is_an_hour_for_clients_of_any_zone(database: str) -> None:
    """The zone of the process and that of its session make no difference."""
    program = (
        "import asyncio, sys\n"
        "from datetime import timedelta\n"
        "from qefleet.memory.postgres import PostgresMemory\n"
        "from qefleet.sql.database import open_pool\n"
        "async def main():\n"
        "    async with await open_pool(sys.argv[1]) as pool:\n"
        "        await PostgresMemory(pool).store(sys.argv[2], 1, ttl=timedelta(hours=1))\n"
        "asyncio.run(main())\n"
    )
    zones = ("America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati", "UTC")
    for zone in zones:
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, database, zone, env=os.environ | {"TZ": zone, "PGTZ": zone}
        )
        assert await client.wait() == 0

    async with await open_pool(database) as pool:
        entries = await PostgresMemory(pool).search("*")

    assert {
        ((entry.expires_at or entry.updated_at) - entry.updated_at).total_seconds() for entry in entries
    } == {3600}
    assert len(entries) == len(zones)


async def _drop(postgres: ThrowAwayPostgres, role: str) -> None:
    """Roles belong to the server: none is left for other tests."""
    connection = await asyncpg.connect(postgres.server.dsn_of("postgres"))
    await connection.execute(f"DROP ROLE IF EXISTS {role}")
    await connection.close()
