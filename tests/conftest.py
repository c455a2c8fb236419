"""The one real Postgres that all tests share, and a fresh migrated database for each that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qefleet.testing.postgres import ThrowAwayPostgres


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[ThrowAwayPostgres]:
    async with ThrowAwayPostgres() as server:
        yield server


@pytest.fixture
async def database(postgres: ThrowAwayPostgres) -> AsyncIterator[str]:
    async with postgres.database() as dsn:
        yield dsn
