"""What a run finds of the runs before it on the same project."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from qefleet.contracts.base import Digest
from qefleet.contracts.runs import AgentResult, ApprovalRecord, CommonInput, StepStatus, Usage
from qefleet.contracts.steps import OpenRun, Plan, RunRef
from qefleet.contracts.targets import Snapshot
from qefleet.fleet.store import RunStore
from qefleet.memory.postgres import PostgresMemory
from qefleet.sql.database import open_pool

_DIGEST: Digest = "0" * 64


@pytest.fixture
async def store(database: str) -> AsyncIterator[RunStore]:
    async with await open_pool(database) as pool:
        yield RunStore(pool)


async def _opened(store: RunStore, project: str) -> str:
    run = str(uuid4())
    request = OpenRun(run=run, workflow_id=f"qe-{run}", pattern="Pipeline", input=CommonInput())
    await store.open(request, Plan(target="x", model="none", steps=[]))
    await store.set_snapshot(run, Snapshot(digest=_DIGEST, name=project, files=1, size_bytes=1))
    return run


async def _recorded(
    store: RunStore,
    run: str,
    step: str,
    duration_s: float,
    *,
    cost: float | None = 0.0,
    status: StepStatus = "completed",
) -> None:
    agent = step.partition("#")[0]
    result = AgentResult(
        step=step,
        agent=agent,
        status=status,
        headline=f"{step} of {duration_s:g} s",
        duration_s=duration_s,
        usage=Usage(cost_usd=cost),
    )
    await store.record(run, result, memory_key=None, task={}, action="tools")


async def test_the_latest_result_of_an_earlier_run_on_the_same_project_is_found(store: RunStore) -> None:
    """Not one of another project, of this run itself, of an item, or one that failed or came later."""
    first, second, other = [await _opened(store, name) for name in ("x", "x", "y")]
    await _recorded(store, first, "code-complexity#0", 1)
    await _recorded(store, second, "code-complexity#0", 2)
    await _recorded(store, second, "code-complexity#1", 3, status="failed")
    await _recorded(store, second, "code-complexity#2/4", 4)
    await _recorded(store, other, "code-complexity#0", 5)
    now = await _opened(store, "x")
    await _recorded(store, now, "code-complexity#0", 6)
    await _recorded(store, first, "code-complexity#7", 7)

    found = await store.last_result(now, "code-complexity")

    assert found
    assert found.headline == "code-complexity#0 of 2 s"
    assert await store.last_result(now, "quality-analyzer") is None
    assert await store.last_result(first, "code-complexity") is None


async def test_history_has_the_medians_of_each_agent(store: RunStore) -> None:
    """A cost that isn't known makes its agent's median unknown."""
    before = await _opened(store, "z")
    for number, (duration_s, cost) in enumerate([(1, 0.1), (5, 0.3), (9, 0.2)]):
        await _recorded(store, before, f"test-generator#{number}", duration_s, cost=cost)
    await _recorded(store, before, "test-executor#0", 3, cost=None)
    await _recorded(store, before, "coverage-analyzer#0", 3, status="failed")
    now = await _opened(store, "z")

    found = [tuple(entry.model_dump().values()) for entry in await store.history(now)]

    assert found == [("test-executor", 1, 3.0, None), ("test-generator", 3, 5.0, 0.2)]


async def test_what_agents_remember_is_their_projects(store: RunStore, database: str) -> None:
    """Each under its own, with history and words; said again for the same step, it is no new version."""
    runs = {project: [await _opened(store, project) for _ in range(2)] for project in ("x", "y")}
    result = AgentResult(
        step="coverage-analyzer#0", agent="coverage-analyzer", status="completed", headline="Half covered"
    )
    for run in (*runs["x"], runs["x"][1], runs["y"][0]):
        await store.record(run, result, memory_key="aqe/coverage/gaps", task={}, action="tools")
    now = datetime.now(UTC)
    approval = ApprovalRecord(
        step="quality-gate#0", verdict="approved", by="me", why="", asked_at=now, answered_at=now
    )
    for _ in range(2):
        await store.remember_approval(RunRef(run=runs["y"][0], workflow_id="qe-y"), approval)

    async with await open_pool(database) as pool:
        x, y = PostgresMemory(pool, project="x"), PostgresMemory(pool, project="y")
        entry = await x.retrieve("aqe/coverage/gaps")
        history = await x.history("aqe/coverage/gaps")
        found = await x.find("half covered")
        keys = await y.list_keys("aqe/")

    assert entry
    assert (entry.version, entry.run_id, entry.step) == (2, runs["x"][1], "coverage-analyzer#0")
    assert [(version.version, version.run_id) for version in history] == [(1, runs["x"][0])]
    assert [match.score for match in found] == [1]
    assert keys == [f"aqe/approvals/qe-y/{runs['y'][0]}/quality-gate#0", "aqe/coverage/gaps"]
