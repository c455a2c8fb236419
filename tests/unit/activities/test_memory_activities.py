"""Memory as workflows reach it, on the store that ships for tests."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.memory import MemoryActivities
from qefleet.contracts.memory import Deleted, Stored
from qefleet.memory.in_process import InProcessMemory

OWNER = {"project": "boltons", "key": "aqe/notes/owner"}


@pytest.fixture
def activities() -> MemoryActivities:
    memories: dict[str, InProcessMemory] = {}
    return MemoryActivities(lambda name: memories.setdefault(name, InProcessMemory(project=name)))


async def run(activity: Any, request: dict[str, Any]) -> Any:
    return await ActivityEnvironment().run(activity, request)


async def test_what_is_stored_is_found(activities: MemoryActivities) -> None:
    """By key, glob and words; in its own project only, until it is deleted."""
    assert await run(activities.memory_store, OWNER | {"value": {"team": "parsers"}}) == Stored(version=1)

    entry = await run(activities.memory_retrieve, OWNER)
    assert (entry.value, entry.version, entry.score) == ({"team": "parsers"}, 1, None)
    found = await run(activities.memory_search, {"project": "boltons", "glob": "aqe/*"})
    assert ([one.key for one in found.entries], found.by) == (["aqe/notes/owner"], "keys")
    recalled = await run(activities.memory_recall, {"project": "boltons", "text": "parsers"})
    assert ([one.score for one in recalled.entries], recalled.by) == ([1.0], "words")
    assert await run(activities.memory_retrieve, OWNER | {"project": "another"}) is None
    assert await run(activities.memory_delete, OWNER) == Deleted(deleted=True)
    assert await run(activities.memory_delete, OWNER) == Deleted(deleted=False)


async def test_second_try_finds_what_the_first_wrote(activities: MemoryActivities) -> None:
    """Where a version is expected; what somebody else wrote meanwhile stays."""
    first = OWNER | {"value": "a", "expected_version": 0}
    second = OWNER | {"value": "b", "expected_version": 1}

    assert [(await run(activities.memory_store, first)).version for _ in range(2)] == [1, 1]
    assert [(await run(activities.memory_store, second)).version for _ in range(2)] == [2, 2]
    assert await run(activities.memory_store, OWNER | {"value": "c", "expected_version": 1}) == Stored(
        version=None
    )
    assert (await run(activities.memory_retrieve, OWNER)).value == "b"


@pytest.mark.parametrize(
    ("name", "request_", "message"),
    [
        ("memory_store", {"project": "p", "key": "k"}, "invalid input: value: Field required"),
        ("memory_store", {"project": "p", "key": "k", "value": 1, "ttl": 5}, "invalid input: ttl: Extra"),
        ("memory_store", {"project": "p", "key": "", "value": 1}, "invalid input: key"),
        ("memory_store", {"project": "p", "key": "k", "value": 1, "ttl_s": -1}, "invalid input: ttl_s: "),
        ("memory_search", {"project": "p", "glob": "*", "limit": 0}, "invalid input: limit: "),
        ("memory_recall", {"text": "x"}, "invalid input: project: Field required"),
    ],
    ids=["missing", "unknown", "key", "ttl", "limit", "project"],
)
async def test_bad_input_names_its_field(
    activities: MemoryActivities, name: str, request_: dict[str, Any], message: str
) -> None:
    """And isn't tried again."""
    with pytest.raises(ApplicationError, match=message) as caught:
        await run(getattr(activities, name), request_)
    assert caught.value.non_retryable


async def test_more_than_a_payload_holds_is_refused(activities: MemoryActivities) -> None:
    """Fewer entries can be had."""
    for number in range(3):
        large = {"project": "boltons", "key": f"large/{number}", "value": "x" * 400_000}
        await run(activities.memory_store, large)

    with pytest.raises(ApplicationError, match="ask for fewer entries"):
        await run(activities.memory_search, {"project": "boltons", "glob": "*"})
    assert (
        len((await run(activities.memory_search, {"project": "boltons", "glob": "*", "limit": 2})).entries)
        == 2
    )
