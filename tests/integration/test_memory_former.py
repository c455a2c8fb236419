"""The former fleet's memory table: nothing lost, bad rows named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from qefleet.errors import UsageError
from qefleet.memory.former import read_file, read_table
from qefleet.memory.in_process import InProcessMemory
from qefleet.memory.postgres import PostgresMemory
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres

TABLE = (
    "CREATE TABLE qe_memory (key text, value text, partition text, created_at timestamp,"
    " expires_at timestamptz, junk int)"
)


async def _make(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def test_every_row_arrives_or_is_named(postgres: ThrowAwayPostgres, database: str) -> None:
    """A thousand good rows in two partitions, and one of each kind that can't be brought in."""
    async with postgres.database(migrated=False) as former, await open_pool(database) as pool:
        await _make(
            former,
            TABLE,
            "INSERT INTO qe_memory SELECT 'aqe/' || i, jsonb_build_object('n', i)::text,"
            " CASE WHEN i % 2 = 0 THEN 'even' END, '2025-01-02 03:04:05', NULL"
            " FROM generate_series(1, 1000) AS i",
            r"""INSERT INTO qe_memory VALUES ('nul', '"a\u0000b"'), ('half', '"\ud800"'), ('big', '1e22'),
            (NULL, '1'), ('', '1'), ('text', 'hello'), ('nan', '[NaN]'), ('null', NULL)""",
            "INSERT INTO qe_memory VALUES ('gone', '1', NULL, NULL, '2020-01-01')",
        )
        memory = PostgresMemory(pool)

        imported = await memory.import_(read_table(former, zone=ZoneInfo("America/New_York")))

        even = [entry async for entry in memory.export(partition="even")]
        others = [entry async for entry in memory.export(partition="default")]

    assert (imported.written, imported.expired, len(imported.bad)) == (1003, 1, 5)
    assert [bad.row.partition(" (")[0] for bad in imported.bad] == [
        "''",
        "'nan'",
        "'null'",
        "'text'",
        "no key",
    ]
    assert {entry.key: entry.value["n"] for entry in even} == {f"aqe/{n}": n for n in range(2, 1001, 2)}
    assert {entry.created_at for entry in even} == {datetime(2025, 1, 2, 8, 4, 5, tzinfo=UTC)}
    assert {entry.key: entry.value for entry in others if entry.key[0] != "a"} == {
        "nul": "a\x00b", "half": "\ud800", "big": 1e22
    }  # fmt: skip


async def test_text_and_expired_rows_come_when_asked_for(postgres: ThrowAwayPostgres) -> None:
    """As strings, and to stay."""
    memory = InProcessMemory()
    async with postgres.database(migrated=False) as former:
        await _make(
            former,
            TABLE,
            "INSERT INTO qe_memory VALUES"
            " ('text', 'hello', NULL, NULL, NULL), ('gone', '1', NULL, NULL, '2020-01-01')",
        )

        imported = await memory.import_(read_table(former, plain_text=True, keep_expired=True))

    assert (imported.written, imported.expired, imported.bad) == (2, 0, [])
    assert {entry.key: entry.value for entry in await memory.search("*")} == {"gone": 1, "text": "hello"}


@pytest.mark.parametrize("kind", ["json", "jsonb"])
async def test_tables_may_have_less(postgres: ThrowAwayPostgres, kind: str) -> None:
    """Key and value will do, in any schema, under any name."""
    memory = InProcessMemory()
    async with postgres.database(migrated=False) as former:
        await _make(
            former,
            "CREATE SCHEMA old",
            f'CREATE TABLE old."My Memory" (key varchar(20), value {kind})',
            """INSERT INTO old."My Memory" VALUES ('k', '[1, 2]')""",
        )

        imported = await memory.import_(read_table(former, table='old."My Memory"'))
        with pytest.raises(UsageError, match="no table"):
            await memory.import_(read_table(former))

    entry = await memory.retrieve("k")
    assert imported.written == 1
    assert entry
    assert entry.value == [1, 2]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('{"key": "a", "value": 1}\n\n{"key": "b", "value": 2}\nnot json\n', ["a", "b"]),
        ('[{"key": "a", "value": 1, "unknown": 2}]', ["a"]),
        ('{"a": 1, "b": {"value": 2, "partition": "default"}}', ["a", "b"]),
        ('{"key": "a", "value": null}', ["a"]),
    ],
)
async def test_files_in_each_form(tmp_path: Path, text: str, keys: list[str]) -> None:
    """Lines, a list, an object by key, one row."""
    file = tmp_path / "former.json"
    file.write_text(text, "utf-8")
    memory = InProcessMemory()

    imported = await memory.import_(read_file(file))

    assert await memory.list_keys() == keys
    assert [bad.row for bad in imported.bad] == (["no key (row 3)"] if "not json" in text else [])


def test_what_is_no_json_at_all_is_refused(tmp_path: Path) -> None:
    """By the file's name."""
    file = tmp_path / "former.txt"
    file.write_text("hello\nworld\n", "utf-8")

    with pytest.raises(UsageError, match=r"former\.txt"):
        list(read_file(file))
