"""Migrations, the pool and its retries against a real Postgres."""

from __future__ import annotations

import asyncio
import subprocess
from importlib.resources import files

import asyncpg
import pytest

from qefleet.errors import SettingsError, StoreUnavailable
from qefleet.sql.database import open_pool, retrying
from qefleet.sql.embedded import EmbeddedPostgres, binaries_folder
from qefleet.sql.migrate import Migration, load_migrations, migrate
from qefleet.testing.postgres import ThrowAwayPostgres


def _dump(dsn: str) -> str:
    dumped = subprocess.run(
        [
            binaries_folder() / "bin" / "pg_dump",
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "--extension=plpgsql",
            "--exclude-table=schema_migrations",
            dsn,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # Recent versions fence the dump with a random key.
    return "\n".join(
        line for line in dumped.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )


async def test_migrations_arrive_at_the_schema(postgres: ThrowAwayPostgres, database: str) -> None:
    """All migrations in a row and schema.sql make the same catalog."""
    async with postgres.database(migrated=False) as direct:
        connection = await asyncpg.connect(direct)
        await connection.execute(files("qefleet.sql").joinpath("schema.sql").read_text())
        await connection.close()

        assert _dump(database) == _dump(direct)


async def test_each_file_is_applied_once_by_however_many(postgres: ThrowAwayPostgres) -> None:
    """Five processes that migrate at once apply each file exactly once between them."""
    async with postgres.database(migrated=False) as dsn:
        applied = await asyncio.gather(*(migrate(dsn) for _ in range(5)))

        assert [name for names in applied for name in names] == [item.name for item in load_migrations()]


async def test_an_edited_file_is_refused(database: str) -> None:
    """A file that changed after it was applied stops the migration."""
    edited = [Migration(item.name, item.sql + "\n-- changed") for item in load_migrations()]

    with pytest.raises(SettingsError, match="was edited after it was applied"):
        await migrate(database, migrations=edited)


async def test_a_newer_database_is_refused(database: str) -> None:
    """A database with files that this version doesn't know is left alone."""
    with pytest.raises(SettingsError, match="newer version"):
        await migrate(database, migrations=[])


async def test_a_broken_file_leaves_nothing(postgres: ThrowAwayPostgres) -> None:
    """A file that fails half-way is undone as a whole."""
    broken = [Migration("0001_x.sql", "CREATE TABLE half (x bigint); SELECT 1 / 0;")]
    async with postgres.database(migrated=False) as dsn:
        with pytest.raises(asyncpg.PostgresError):
            await migrate(dsn, migrations=broken)

        async with await open_pool(dsn) as pool:
            assert await pool.fetchval("SELECT to_regclass('half')") is None


async def test_json_columns_take_python_values(database: str) -> None:
    """A jsonb parameter takes a value with NUL and a lone surrogate, and gives a value back."""
    async with await open_pool(database) as pool:
        found = await pool.fetchval("SELECT $1::jsonb", {"a": [1, None, "x\x00y\ud800é"]})

    assert found == {"a": [1, None, "x\ufffdy\ufffdé"]}


async def test_the_pool_outlives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After kill -9 the server starts over its stale files, keeps the data, and the same pool goes on."""
    async with (
        EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "data") as server,
        await open_pool(server.dsn) as pool,
    ):
        await pool.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        await server.kill()
        reading = asyncio.create_task(retrying(lambda: pool.fetchval("SELECT answer FROM kept")))
        await asyncio.sleep(0.2)
        await server.start()

        assert await reading == 42


async def test_a_second_server_is_kept_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The lock that a running server holds keeps another one from its data folder."""
    async with EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "data") as server:
        argv, env = server.command()
        second = await asyncio.create_subprocess_exec(*argv, env=env, stderr=subprocess.DEVNULL)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.wait(), 1)
        second.kill()
        await second.wait()


async def test_giving_up_names_the_setting() -> None:
    """When Postgres stays away, the error says so and names the variable to check."""
    with pytest.raises(StoreUnavailable, match="QE_DATABASE_URL"):
        await retrying(lambda: asyncpg.connect("postgresql://qe@/x?host=/nonexistent"), total_s=0.2)


async def test_a_bad_url_is_told_without_its_password() -> None:
    """A URL that isn't one is refused, and nothing of it is repeated."""
    with pytest.raises(SettingsError) as caught:
        await open_pool("postgresql://me:hunter2@host:notaport/x")

    assert "hunter2" not in str(caught.value)
