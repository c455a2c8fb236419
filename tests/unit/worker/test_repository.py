"""Workflow ids that a second run of the same CI job gets again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from qefleet.contracts.patterns import PipelineInput
from worker.cli.repository import find_repository, same_run_id


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "backend").mkdir(parents=True)
    (folder / "backend" / "a.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "remote", "add", "origin", "git@example.org:team/My.Project.git")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return folder


async def _id(target: object, *, pattern: str = "pipeline", model: str = "none", **more: Any) -> str | None:
    return await same_run_id(
        pattern, PipelineInput.model_validate({"target": str(target), **more}), model=model
    )


async def test_id_names_repository_commit_and_pattern(repository: Path) -> None:
    """A person finds it in the list of runs."""
    head = git(repository, "rev-parse", "HEAD")

    found = await _id(repository)

    assert found is not None
    assert found.startswith(f"qe-my-project-{head[:12]}-pipeline-")
    assert found == await _id(repository)


async def test_whatever_makes_another_result_makes_another_id(repository: Path) -> None:
    """Options, model, pattern, the folder in the repository, the base."""
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "y")
    ids = [
        await _id(repository),
        await _id(repository, model="local"),
        await _id(repository, pattern="parallel"),
        await _id(repository, thresholds={"line_percent_min": 80}),
        await _id(repository, base="HEAD~1"),
        await _id(repository, base="HEAD"),
        await _id(repository / "backend"),
    ]

    assert len(set(ids)) == len(ids)


async def test_base_that_has_moved_on_makes_no_other_id(repository: Path) -> None:
    """What is compared with is the commit where the branch left it."""
    git(repository, "checkout", "--quiet", "-b", "work")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "work")
    first = await _id(repository, base="main")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "meanwhile")
    git(repository, "checkout", "--quiet", "work")

    assert await _id(repository, base="main") == first


@pytest.mark.parametrize("name", ["backend/a.py", "new.py", "note.log"])
async def test_folder_with_changes_has_no_such_id(repository: Path, name: str) -> None:
    """Unless git ignores them."""
    (repository / name).write_text("changed = 1\n")

    assert (await _id(repository) is None) == (name != "note.log")


async def test_only_commits_have_such_an_id(tmp_path: Path, repository: Path) -> None:
    """A package, a plain folder and a branch don't; a commit of a git target does."""
    head = git(repository, "rev-parse", "HEAD")
    ids = [
        await _id(target)
        for target in (
            "pypi:a==1",
            tmp_path,
            f"git+file://{repository}@main",
            f"git+file://{repository}@{head}",
        )
    ]

    assert ids[:3] == [None] * 3
    assert (ids[3] or "").startswith(f"qe-checkout-{head[:12]}-pipeline-")


async def test_folder_knows_its_place_in_the_repository(repository: Path, tmp_path: Path) -> None:
    """Report files name places from the repository's root."""
    found = await find_repository(repository / "backend")

    assert found is not None
    assert (found.name, found.inside) == ("my-project", "backend/")
    assert await find_repository(tmp_path) is None
