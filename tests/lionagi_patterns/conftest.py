"""A scripted provider in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qefleet.testing.provider import ScriptedProvider


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as running:
        yield running


@pytest.fixture
async def provider(server: ScriptedProvider) -> ScriptedProvider:
    await server.script([])
    await server.reset()
    return server
