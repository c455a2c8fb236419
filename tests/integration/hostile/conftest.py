from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from attacker import CANARY, Attacker

from qefleet.workspace.sandbox import Sandbox


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a secret, and a process of ours with the secret in its real environment."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "secret.txt").write_text(CANARY)
    keeper = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        env={**os.environ, "OPENAI_API_KEY": CANARY},
    )
    yield folder
    keeper.communicate()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox.detect(scratch_root=tmp_path_factory.mktemp("scratch"))


@pytest.fixture
async def attacker(
    sandbox: Sandbox, guarded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Attacker]:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    project = tmp_path / "project"
    project.mkdir()
    (project / "module.py").write_text("VALUE = 1\n")
    (project / "link").symlink_to(guarded / "secret.txt")
    project.chmod(0o777)
    attacker = Attacker(sandbox, project, f"attack-{uuid.uuid4().hex}")
    yield attacker
    assert attacker.survivors() == []
    alive = await sandbox.run(["/bin/true"])
    assert alive.exit_code == 0
    assert (project / "module.py").read_text() == "VALUE = 1\n"
