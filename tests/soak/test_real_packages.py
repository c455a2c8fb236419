"""Packages that nobody here wrote, with a scripted model; what the result says against plain tools."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from boltons_answers import EXPECTED, GOOD
from running_fleet import RunningFleet, running_fleet

from qefleet.contracts.generation import GenerationDetails
from qefleet.contracts.runs import Decision
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.workspace.archive import pack, unpack
from qefleet.workspace.index_settings import IndexSettings
from qefleet.workspace.source_pypi import read_release

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
UV = str(Path(sys.executable).with_name("uv"))


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[RunningFleet]:
    replies = f"{Path(__file__).parent / 'boltons_answers.py'}:answer"
    async with running_fleet(tmp_path_factory.mktemp("data"), replies=replies) as running:
        yield running


async def run(*argv: str | Path, cwd: Path | None = None) -> None:
    process = await asyncio.create_subprocess_exec(*argv, cwd=cwd)
    assert await process.wait() == 0, argv


async def sdist(name: str, version: str, folder: Path) -> Path:
    """The release's source, as the user's package index has it."""
    index = IndexSettings.from_environment(os.environ)
    release = await read_release(name, version, index_url=index.simple_url)
    await asyncio.to_thread(unpack, pack(release.tree), folder)
    return folder


async def test_only_good_tests_are_kept_and_plain_coverage_agrees(
    fleet: RunningFleet, tmp_path: Path
) -> None:
    """boltons: each bad proposal names its filter; a clean checkout with the patch measures the same."""
    run_input = {
        "target": "pypi:boltons==26.2.0",
        "agents": [
            {"agent": "test-generator", "options": {"max_segments": 12, "max_rounds": 1}},
            "test-executor",
            "coverage-analyzer",
            "quality-gate",
        ],
    }
    result = await fleet.execute(run_input, workflow_id="boltons")
    generation = GenerationDetails.model_validate(result.steps[0].measured.details)
    kept = sorted(verdict.test for verdict in generation.verdicts if verdict.kept)
    rejected = {v.test: str(v.filter) for v in generation.verdicts if not v.kept}

    assert len(kept) == len(GOOD)
    named = {bad: {found for test, found in rejected.items() if test.startswith(bad)} for bad in EXPECTED}
    assert named == {bad: {name} for bad, name in EXPECTED.items()}
    assert result.decision is Decision.GO
    assert result.patch is not None

    clean = await sdist("boltons", "26.2.0", tmp_path / "clean")
    async with await open_pool(fleet.services.up.addresses.database_url) as pool:
        (tmp_path / "run.patch").write_bytes(await Artifacts(pool).get(result.patch.digest))
    await run("git", "apply", tmp_path / "run.patch", cwd=clean)
    await run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    await run(UV, "pip", "install", "--quiet", "--python", python, "pytest", "coverage")
    await run(
        python, "-m", "coverage", "run", "--branch", "--source=boltons", "-m", "pytest", "-q", cwd=clean
    )
    await run(python, "-m", "coverage", "json", "-q", "-o", tmp_path / "plain.json", cwd=clean)
    totals = json.loads((tmp_path / "plain.json").read_text())["totals"]
    measured = result.steps[2].measured

    assert (
        totals["covered_lines"],
        totals["num_statements"],
        totals["covered_branches"],
        totals["num_branches"],
    ) == tuple(
        measured.value(f"coverage.{name}")
        for name in ("lines_covered", "lines_total", "branches_covered", "branches_total")
    )


async def test_fully_covered_package_has_nothing_to_gain(fleet: RunningFleet) -> None:
    """cachetools: no model call, GO."""
    before = len(await fleet.provider.requests())
    result = await fleet.execute("pypi:cachetools", workflow_id="cachetools")

    assert result.steps[0].headline.startswith("nothing to gain")
    assert (result.usage.calls, len(await fleet.provider.requests()) - before) == (0, 0)
    assert result.decision is Decision.GO


async def test_red_package_is_named_and_not_generated_for(fleet: RunningFleet) -> None:
    """A package whose suite is red as it comes: failing tests named, NO_GO."""
    result = await fleet.execute("pypi:natsort", workflow_id="red")

    assert result.steps[0].headline.startswith("nothing generated over a red base")
    assert "::" in result.steps[0].headline
    assert (result.decision, result.patch) == (Decision.NO_GO, None)
