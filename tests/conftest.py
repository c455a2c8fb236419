"""The one real Postgres that all tests share, and a fresh migrated database for each that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from qefleet.testing.postgres import ThrowAwayPostgres

# Two busy cores: how long an example takes says nothing about the code.
settings.register_profile("qefleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qefleet")


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[ThrowAwayPostgres]:
    async with ThrowAwayPostgres() as server:
        yield server


@pytest.fixture
async def database(postgres: ThrowAwayPostgres) -> AsyncIterator[str]:
    async with postgres.database() as dsn:
        yield dsn
