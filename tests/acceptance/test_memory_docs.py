"""The pages about memory: their commands in a real shell, their Python as it stands there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from command_line import environment
from doc_pages import Command, Page
from doc_session import Shell

from qefleet.testing.postgres import ThrowAwayPostgres

MEMORY, MIGRATING = Page.read("memory.md"), Page.read("migrating/memory.md")


@pytest.fixture
async def former(postgres: ThrowAwayPostgres) -> AsyncIterator[str]:
    """A table as the former fleet's users had it."""
    async with postgres.database(migrated=False) as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "CREATE TABLE qe_memory (key text PRIMARY KEY, value text, partition text,"
            " created_at timestamp, expires_at timestamp);"
            "INSERT INTO qe_memory VALUES"
            """ ('aqe/coverage/gaps', '{"gaps": [1, 2]}', 'default', '2025-01-02 03:04:05', NULL),"""
            " ('aqe/broken', 'no json', 'default', now(), NULL),"
            " ('aqe/later', '1', NULL, NULL, '2099-01-01'),"
            " ('aqe/old', '2', 'default', '2025-01-01', '2025-01-02')"
        )
        await connection.close()
        yield dsn


def plays(shell: Shell, commands: list[Command]) -> None:
    """Each command says what the page says, `…` being anything."""
    for command in commands:
        _, said = shell.type(command)
        lines = [line.rstrip() for line in said.splitlines()]
        assert len(lines) == len(command.said), f"$ {command.typed}\n{said}"
        for line, shown in zip(lines, command.said, strict=True):
            pattern = ".*".join(map(re.escape, shown.split("…")))
            assert re.fullmatch(pattern, line), f"$ {command.typed}\n{said}\nis shown as {shown!r}"


async def test_commands_of_the_page(tmp_path: Path, database: str) -> None:
    """In the page's order, on an empty database."""
    owner = await asyncpg.connect(database)
    await owner.execute(
        "DO $$ BEGIN CREATE ROLE reporting; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    shell = Shell(env=environment(tmp_path, QE_DATABASE_URL=database), cwd=tmp_path, target="")

    await asyncio.to_thread(plays, shell, MEMORY.commands)

    await owner.execute("DROP OWNED BY reporting; DROP ROLE reporting")
    await owner.close()


async def test_commands_of_the_migrating_page(tmp_path: Path, database: str, former: str) -> None:
    """On a former fleet's table, and a file."""
    rows = {"aqe/quality/metrics": {"score": 0.5}}
    (tmp_path / "former.json").write_text(json.dumps(rows), "utf-8")
    env = environment(tmp_path, QE_DATABASE_URL=database, FORMER=former)

    await asyncio.to_thread(plays, Shell(env=env, cwd=tmp_path, target=""), MIGRATING.commands)


async def test_python_of_the_page() -> None:
    """As it stands there; the workflow beside it is run with a fleet, in `test_migrating_docs.py`."""
    (block,) = [block for block in MEMORY.blocks("python") if "workflow.defn" not in block]
    names: dict[str, Any] = {}
    exec(block, names)

    await names["example"]()
