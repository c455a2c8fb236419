"""`qe migrate` makes the fleet's search attributes known to the user's own Temporal."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts import attributes
from tests.acceptance.command_line import Ended, environment, qe

_NAMES = {key.name for key in attributes.ALL}


async def migrate(folder: Path, database: str, *arguments: str, **temporal: str) -> Ended:
    env = environment(folder / "data", QE_DATABASE_URL=database, **temporal)
    return await asyncio.to_thread(qe, "migrate", *arguments, env=env, cwd=folder)


@pytest.fixture
async def namespace(temporal: WorkflowEnvironment, tmp_path: Path) -> dict[str, str]:
    """Settings for a namespace without any search attribute."""
    settings = {
        "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": f"empty-{uuid4().hex[:8]}",
    }
    create = ("operator", "namespace", "create", "--namespace", settings["TEMPORAL_NAMESPACE"])
    env = environment(tmp_path, **settings)
    made = await asyncio.to_thread(qe, *create, env=env, cwd=tmp_path, program=("temporal",))
    assert made.code == 0, made.err
    return settings


async def test_missing_ones_are_registered_once(
    namespace: dict[str, str], database: str, tmp_path: Path
) -> None:
    """The first call names what it registered, and the next has nothing to do."""
    first = await migrate(tmp_path, database, "--json", **namespace)
    second = await migrate(tmp_path, database, "--json", **namespace)
    told = await migrate(tmp_path, database, **namespace)

    assert set(first.json["search_attributes"]["registered"]) == _NAMES
    assert second.json["search_attributes"] == {
        "temporal": namespace["TEMPORAL_ADDRESS"],
        "registered": [],
        "error": None,
    }
    assert f"search attributes: nothing to do: {namespace['TEMPORAL_ADDRESS']} has them" in told.out


async def test_temporal_that_does_not_answer_is_told(database: str, tmp_path: Path) -> None:
    """The database is migrated nevertheless; each worker registers them again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        ended = await migrate(tmp_path, database, TEMPORAL_ADDRESS=address)

    assert ended.code == 0
    assert f"search attributes: not registered with {address}" in ended.out


async def test_without_a_temporal_of_ones_own_it_says_who_does_it(database: str, tmp_path: Path) -> None:
    """Those of the embedded server come with it."""
    ended = await migrate(tmp_path, database)

    assert (ended.code, "`qe up` itself" in ended.out) == (0, True)
