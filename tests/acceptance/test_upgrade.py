"""`qe up` of another build takes along what the one before has left open."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.command_line import environment, make_project, qe, read_json, running, until_line

_GATED = json.dumps({"agents": ["test-executor", "quality-gate"], "approval": True})
_PERSON = json.dumps({"by": "tester", "why": "looks good"})


def until(*command: str, env: Mapping[str, str], cwd: Path, prints: str = "", within_s: float = 60) -> None:
    """Repeat a `temporal` command until it succeeds and prints this."""
    deadline = time.monotonic() + within_s
    while True:
        ended = qe(*command, env=env, cwd=cwd, program=("temporal",))
        if ended.code == 0 and prints in ended.out:
            return
        assert time.monotonic() < deadline, ended.out + ended.err
        time.sleep(0.5)


@pytest.mark.soak
def test_open_run_goes_on_with_the_new_build(tmp_path: Path) -> None:
    """A run that was begun by an older build is moved, said so in a line, and ends well."""
    old = environment(tmp_path / "data", QE_BUILD_ID="old", QE_MODEL="none")
    new = old | {"QE_BUILD_ID": "new"}
    project = str(make_project(tmp_path / "project"))
    with running("up", "--json", env=old, cwd=tmp_path) as process:
        address = {"TEMPORAL_ADDRESS": read_json(process)["addresses"]["temporal"]}
        given = ("--input", _GATED, "--id", "kept", "--detach")
        assert qe("run", "pipeline", project, *given, env=old, cwd=tmp_path).code == 0
        pinned = "TemporalWorkerDeploymentVersion = 'qefleet:old'"
        until("workflow", "list", "--query", pinned, env=old | address, cwd=tmp_path, prints="kept")

    with running("up", env=new, cwd=tmp_path) as process:
        until_line(process, "ready")
        until_line(process, "kept began with build old and goes on with new")
        address = {
            "TEMPORAL_ADDRESS": json.loads((tmp_path / "data" / "up.json").read_text())["addresses"][
                "temporal"
            ]
        }
        approve = ("workflow", "update", "execute", "--workflow-id", "kept", "--name", "approve")
        until(*approve, "--input", _PERSON, env=new | address, cwd=tmp_path)
        ended = qe("run", "--attach", "kept", "--json", env=new, cwd=tmp_path)

    assert (ended.code, ended.json["result"]["decision"]) == (0, "GO")
