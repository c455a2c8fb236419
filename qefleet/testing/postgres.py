"""A real Postgres for tests, and a fresh database in it for each.

```python
@pytest.fixture(scope="session")
async def postgres():
    async with ThrowAwayPostgres() as server:
        yield server

@pytest.fixture
async def database(postgres):
    async with postgres.database() as dsn:
        yield dsn
```
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import asyncpg

from qefleet.sql.embedded import EmbeddedPostgres
from qefleet.sql.migrate import migrate

TEMPLATE = "qe_template"


class ThrowAwayPostgres:
    """A server of its own in a temporary folder, quick because it needn't survive the machine's crash."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="qe-"))
        # Lets the user that Postgres runs as pass through; what is inside stays closed.
        self._folder.chmod(0o711)
        self.server = EmbeddedPostgres(
            self._folder / "pg",
            settings={"synchronous_commit": "off", "fsync": "off", "full_page_writes": "off"},
        )

    async def __aenter__(self) -> Self:
        await self.server.start()
        await self._execute(f'CREATE DATABASE "{TEMPLATE}"')
        await migrate(self.server.dsn_of(TEMPLATE))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def database(self, *, migrated: bool = True) -> AsyncGenerator[str]:
        """A fresh database's URL; it is dropped afterwards, whoever is still connected."""
        name = f"test_{uuid4().hex}"
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE if migrated else "template0"}"')
        # A template gives its rights on itself to nobody: see qefleet/sql/roles.sql.
        await self._execute(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
        try:
            yield self.server.dsn_of(name)
        finally:
            await self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.dsn_of("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
