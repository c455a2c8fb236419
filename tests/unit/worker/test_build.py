from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from worker.build import build_id, deployment_version
from worker.settings import Settings

_ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
_VERSION = version("qefleet")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder as our packages lie in it."""
    for folder in ("workflows", "qefleet/contracts", "docs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.py").write_text("one = 1\n")
    return tmp_path


@pytest.fixture
def commit(sources: Path) -> str:
    """The commit of the folder, which is a repository now."""

    def git(*arguments: str) -> str:
        command = ("git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments)
        done = subprocess.run(command, cwd=sources, env=_ENV, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    return git("rev-parse", "--short=12", "HEAD")


def test_checkout_is_named_by_its_commit(sources: Path, commit: str) -> None:
    """What is edited elsewhere makes no other build."""
    (sources / "docs" / "one.py").write_text("two = 2\n")

    assert build_id(sources, _ENV) == f"{_VERSION}-{commit}"


@pytest.mark.parametrize("file", ["workflows/one.py", "workflows/new.py", "qefleet/contracts/one.py"])
def test_edited_workflows_are_another_build(sources: Path, commit: str, file: str) -> None:
    """Each edit since the commit gives an id of its own."""
    ids: set[str] = set()
    for text in ("two = 2\n", "three = 3\n"):
        (sources / file).write_text(text)
        ids.add(build_id(sources, _ENV))

    assert len(ids) == 2
    assert all(name.startswith(f"{_VERSION}-{commit}-") for name in ids)


def test_installed_packages_are_named_by_their_sources(sources: Path) -> None:
    """Without a repository of its own, the sources alone tell builds apart."""
    before = build_id(sources, _ENV)
    (sources / "workflows" / "one.py").write_text("two = 2\n")

    assert before.startswith(f"{_VERSION}-")
    assert build_id(sources, _ENV) != before


def test_users_repository_is_not_taken_for_ours(sources: Path, commit: str) -> None:
    """An environment inside a user's checkout doesn't take the user's commit."""
    site = sources / "venv" / "site-packages"
    (site / "workflows").mkdir(parents=True)

    assert commit not in build_id(site, _ENV)


def test_name_given_by_the_operator_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """`QE_BUILD_ID` is the whole id."""
    monkeypatch.setenv("QE_BUILD_ID", "blue-7")

    version = deployment_version(Settings.load(env_file=None))

    assert (version.deployment_name, version.build_id) == ("qefleet", "blue-7")
