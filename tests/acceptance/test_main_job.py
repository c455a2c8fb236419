"""The main job on a small real project: real server, Postgres, sandbox and tools; a scripted model."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from planted import make_project
from running_fleet import RunningFleet, children, figures, reset_and_wait, running_fleet

from qefleet.contracts.runs import Decision, RunResult
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool

FUNCTIONS = CALLS = 4
"""One proposal for each planted function, and nothing left to judge."""


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), functions=FUNCTIONS)


@pytest.fixture(scope="module")
async def undisturbed(fleet: RunningFleet, project: Path) -> RunResult:
    return await fleet.execute({"target": str(project)}, workflow_id="undisturbed")


async def test_tests_are_generated_kept_and_counted(undisturbed: RunResult) -> None:
    """Four functions, a right proposal for each: all kept, everything covered, GO."""
    generator, executor, coverage, gate = undisturbed.steps

    assert generator.measured.value("generation.kept") == FUNCTIONS
    assert generator.measured.value("generation.proposed") == FUNCTIONS
    assert executor.measured.value("tests.passed") == 1 + FUNCTIONS
    assert coverage.measured.value("coverage.line_percent") == 100
    assert coverage.measured.value("coverage.before.lines_covered") == FUNCTIONS + 2
    assert (gate.decision, undisturbed.decision) == (Decision.GO, Decision.GO)
    assert undisturbed.usage.calls == CALLS


async def test_every_number_says_where_it_is_from(undisturbed: RunResult) -> None:
    """Each measured step carries its tools with version, exit code and the artifact's hash."""
    for step in undisturbed.steps:
        for tool in step.measured.tools:
            assert tool.version != "unknown"
            assert tool.exit_code == 0
            assert tool.artifact is not None


async def test_patch_applies_and_plain_tools_agree(
    fleet: RunningFleet, project: Path, undisturbed: RunResult, tmp_path: Path
) -> None:
    """The patch, applied to a clean copy, passes under plain pytest."""
    assert undisturbed.patch is not None
    patch = tmp_path / "run.patch"
    patch.write_bytes(await artifact(fleet, undisturbed.patch.digest))
    clean = make_project(tmp_path / "clean", functions=FUNCTIONS)
    await asyncio.to_thread(subprocess.run, ["git", "apply", str(patch)], cwd=clean, check=True)

    kept = sorted(path.name for path in (clean / "tests").iterdir())

    assert kept == ["test_qe_planted_shapes.py", "test_shapes.py"]
    assert sorted(path.name for path in (project / "tests").iterdir()) == ["test_shapes.py"]


async def artifact(fleet: RunningFleet, digest: str) -> bytes:
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        return await Artifacts(pool).get(digest)


async def test_killed_workers_pay_nothing_twice(
    fleet: RunningFleet, project: Path, undisturbed: RunResult
) -> None:
    """A worker killed twice at random moments: same figures, one request a call."""
    before = len(await fleet.provider.requests())
    running = asyncio.create_task(fleet.execute({"target": str(project)}, workflow_id="killed"))
    for _ in range(2):
        await asyncio.sleep(random.uniform(1, 5))
        for worker in children("worker.main"):
            worker.kill()
    result = await running

    assert figures(result) == figures(undisturbed)
    assert len(await fleet.provider.requests()) - before == CALLS


async def test_reset_run_pays_nothing_again(fleet: RunningFleet, undisturbed: RunResult) -> None:
    """After `temporal workflow reset` to the first task every answer comes from the ledger."""
    before = len(await fleet.provider.requests())
    result = await reset_and_wait(fleet.client, "undisturbed")

    assert figures(result) == figures(undisturbed)
    assert len(await fleet.provider.requests()) == before
    assert (result.usage.calls, result.usage.replayed_calls >= CALLS) == (CALLS, True)


async def test_red_base_is_named_and_refused(fleet: RunningFleet, tmp_path: Path) -> None:
    """A suite that fails as it comes: nothing generated, no test written, NO_GO."""
    before = len(await fleet.provider.requests())
    result = await fleet.execute({"target": str(make_project(tmp_path / "red", red=True))}, workflow_id="red")

    assert result.steps[0].headline == (
        "nothing generated over a red base (options.allow_red): tests/test_shapes.py::test_known"
    )
    assert result.decision is Decision.NO_GO
    assert result.patch is None
    proposals = [r for r in (await fleet.provider.requests())[before:] if "Write three tests" in r.prompt]
    assert proposals == []
