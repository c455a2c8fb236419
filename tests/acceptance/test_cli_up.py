from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.command_line import environment, make_project, qe, read_json, running, until_line

_QUICK = ("--model", "none", "--agents", "test-executor,quality-gate")
_STEPS = (*_QUICK, "--json")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cwd")


@pytest.fixture(scope="module")
def up(env: dict[str, str], folder: Path) -> Generator[dict[str, Any]]:
    with running("up", "--model", "none", "--json", env=env, cwd=folder) as process:
        yield read_json(process)


def test_up_tells_every_address(up: dict[str, Any]) -> None:
    """A program learns from `qe up --json` where everything is."""
    assert up["running"] is True
    assert set(up["services"]) == {"postgres", "temporal", "gateway", "worker"}
    assert set(up["addresses"]) == {"temporal", "namespace", "ui", "gateway", "local_model", "database"}


def test_second_up_tells_of_the_first(up: dict[str, Any], env: dict[str, str], folder: Path) -> None:
    """It exits 1 and says who runs and where."""
    ended = qe("up", "--json", env=env, cwd=folder)

    assert ended.code == 1
    assert (ended.json["already"]["pid"], ended.json["already"]["addresses"]) == (up["pid"], up["addresses"])


def test_doctor_finds_the_running_system_well(up: dict[str, Any], env: dict[str, str], folder: Path) -> None:
    """Each part that runs is asked and answers."""
    assert up["running"]
    ended = qe("doctor", "--json", env=env, cwd=folder)

    statuses = {check["name"]: check["status"] for check in ended.json["checks"]}
    parts = ("qe up", "gateway", "temporal", "postgres", "sandbox", "git", "uv")
    assert {part: statuses.get(part) for part in parts} == dict.fromkeys(parts, "ok")
    assert (ended.code, ended.json["ok"]) == (0, True)


def test_green_project_is_a_go(up: dict[str, Any], env: dict[str, str], folder: Path, tmp_path: Path) -> None:
    """A run through the running system ends with its decision, a report and exit code 0."""
    project = make_project(tmp_path / "project")

    ended = qe(
        "run", "pipeline", str(project), *_STEPS, "--report", str(tmp_path / "out"), env=env, cwd=folder
    )

    assert ended.code == 0, ended.err
    assert ended.json["result"]["decision"] == "GO"
    names = ("report.html", "report.md", "result.json", "junit.xml", "results.sarif")
    assert ended.json["files"] == [str(tmp_path / "out" / name) for name in names]
    assert all(Path(file).read_bytes() for file in ended.json["files"])
    assert up["addresses"]["ui"] in ended.json["ui"]
    listed = qe("report", "--json", env=env, cwd=folder).json
    assert ended.json["workflow_id"] in {run["workflow_id"] for run in listed}


def test_red_project_is_a_no_go(up: dict[str, Any], env: dict[str, str], tmp_path: Path) -> None:
    """A failing suite ends with exit code 1."""
    assert up["running"]
    ended = qe("run", "pipeline", ".", *_STEPS, env=env, cwd=make_project(tmp_path / "project", green=False))

    assert (ended.code, ended.json["result"]["decision"]) == (1, "NO_GO")


def test_detached_run_is_attached_to(
    up: dict[str, Any], env: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    """`--detach` returns at once; `--attach` gives the result; the id can't be used while it runs."""
    assert up["running"]
    project = str(make_project(tmp_path / "project"))

    started = qe("run", "pipeline", project, *_STEPS, "--detach", "--id", "my-run", env=env, cwd=folder)
    again = qe("run", "pipeline", project, *_STEPS, "--id", "my-run", env=env, cwd=folder)
    ended = qe("run", "--attach", "my-run", "--json", env=env, cwd=folder)

    assert (started.code, started.json["workflow_id"]) == (0, "my-run")
    assert (again.code, "--attach my-run" in again.err) == (2, True)
    assert (ended.code, ended.json["result"]["decision"]) == (0, "GO")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pipeline", "pypi:tabulate==0.0.0.1"], "tabulate"),
        (["pipeline", "pypi:tabulate", "--agents", "no-such-agent"], "no-such-agent|no such agent"),
        (["--attach", "no-such-run"], "no-such-run"),
    ],
    ids=["target", "agent", "run"],
)
def test_what_only_the_worker_can_refuse_exits_2(
    up: dict[str, Any], env: dict[str, str], folder: Path, arguments: list[str], said: str
) -> None:
    """Unusable input is told apart from a failed run, wherever it is found out."""
    assert up["running"]
    ended = qe("run", *arguments, "--json", env=env, cwd=folder)

    assert ended.code == 2, ended.err
    assert any(part in ended.err for part in said.split("|"))


def test_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ctrl-C stops the services that `qe run` started and keeps the run; `--attach` brings it to its end."""
    env = environment(tmp_path / "data")
    project = make_project(tmp_path / "project")
    with running("run", "pipeline", str(project), *_QUICK, "--id", "kept", env=env, cwd=tmp_path) as process:
        until_line(process, "environment")
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    _assert_gone(family)
    ended = qe("run", "--attach", "kept", "--json", env=env, cwd=tmp_path)

    assert (process.returncode, "--attach kept" in said) == (130, True)
    assert (ended.code, ended.json["result"]["decision"]) == (0, "GO")


def test_named_port_that_is_taken_exits_2(tmp_path: Path) -> None:
    """The user's port is never replaced behind their back."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])

        ended = qe("up", env=environment(tmp_path, QE_GATEWAY_PORT=port), cwd=tmp_path)

    assert (ended.code, f"QE_GATEWAY_PORT: port {port} is in use" in ended.err) == (2, True)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_up_that_is_stopped_while_starting_leaves_nothing(tmp_path: Path, signum: signal.Signals) -> None:
    """At whatever moment it is asked, it ends well and takes all along."""
    with running("up", env=environment(tmp_path / "data"), cwd=tmp_path) as process:
        deadline = time.monotonic() + 60
        while not (family := psutil.Process(process.pid).children(recursive=True)):
            assert time.monotonic() < deadline, "nothing was started"
            time.sleep(0.05)

        process.send_signal(signum)
        process.communicate(timeout=60)

    assert process.returncode == 0
    _assert_gone(family)


def test_killed_up_leaves_no_orphan(tmp_path: Path) -> None:
    """After `kill -9` nothing of it is left, and the next one starts."""
    env = environment(tmp_path / "data")
    with running("up", "--json", env=env, cwd=tmp_path) as process:
        pid = read_json(process)["pid"]
        family = psutil.Process(pid).children(recursive=True)

        os.kill(pid, signal.SIGKILL)
        process.wait(timeout=10)

    _assert_gone(family)
    with running("up", "--json", env=env, cwd=tmp_path) as process:
        assert read_json(process)["running"]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ProcessLookupError):  # it ended while it was looked at
        return False


def _assert_gone(family: list[psutil.Process]) -> None:
    """All have ended; whoever reaps orphans here may leave them as zombies."""
    deadline = time.monotonic() + 10
    while left := [process for process in family if _lives(process)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)
