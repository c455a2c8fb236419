"""What a run in the sandbox sees, what it leaves, and how it tells that it ended."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from qefleet.errors import SandboxUnavailable
from qefleet.workspace.sandbox import Finished, Limits, Mount, Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox.detect(scratch_root=tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def unsafe(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox.detect(unsafe=True, scratch_root=tmp_path_factory.mktemp("unsafe"))


@pytest.fixture(params=["confined", "unconfined"])
def either(request: pytest.FixtureRequest, sandbox: Sandbox, unsafe: Sandbox) -> Sandbox:
    return sandbox if request.param == "confined" else unsafe


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "data.txt").write_text("base\n")
    (folder / "data.txt").chmod(0o666)
    folder.chmod(0o777)
    return folder


def python(program: str) -> list[str]:
    return [os.path.realpath(sys.executable), "-c", program]


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def test_a_run_tells_how_it_ended(either: Sandbox) -> None:
    """Exit code and output, both streams in their order, come back."""
    done = await either.run(shell("echo out; echo err >&2; exit 3"))

    assert (done.exit_code, done.output, done.truncated, done.timed_out) == (3, b"out\nerr\n", False, False)
    assert done.confined is either.confined
    assert 0 < done.duration_s < 10


async def test_a_signal_is_told_as_shells_do(either: Sandbox) -> None:
    """A program that killed itself with signal 11 has exit code 139."""
    assert (await either.run(shell("kill -11 $$"))).exit_code == 139


async def test_a_missing_program_is_told(either: Sandbox) -> None:
    """Exit code 127 and a sentence, as from a shell."""
    done = await either.run(["/no/such/program"])

    assert (done.exit_code, b"cannot start '/no/such/program'" in done.output) == (127, True)


async def test_files_go_in_and_results_come_out(either: Sandbox, project: Path) -> None:
    """Files are laid over the project for one run, results come back, the project is untouched."""
    done = await either.run(
        shell(
            "cat data.txt deep/extra.txt /qe/helper\n"
            "echo more >> data.txt; cp data.txt /out/result; rm data.txt"
        ),
        mounts=[Mount(project, "/src", layered=True)],
        cwd="/src",
        files={"/src/deep/extra.txt": b"extra\n", "/qe/helper": b"helper\n"},
        collect=["/out/result", "/out/missing", "/src/deep/extra.txt"],
    )
    again = await either.run(shell("ls"), mounts=[Mount(project, "/src", layered=True)], cwd="/src")

    assert (done.exit_code, done.output) == (0, b"base\nextra\nhelper\n")
    assert dict(done.outputs) == {"/out/result": b"base\nmore\n", "/src/deep/extra.txt": b"extra\n"}
    assert again.output == b"data.txt\n"
    assert not (project / "deep").exists()
    assert (project / "data.txt").read_text() == "base\n"


async def test_a_writable_mount_reaches_the_host(either: Sandbox, tmp_path: Path) -> None:
    """Preparing an environment writes to a folder of ours."""
    file = tmp_path / "file"

    await either.run(shell("echo written > /env/file"), mounts=[Mount(tmp_path, "/env", writable=True)])

    assert file.read_text() == "written\n"


async def test_the_time_limit_ends_a_run(either: Sandbox) -> None:
    """A killed run has no exit code, and what it printed before is kept."""
    done = await either.run(shell("echo begun; sleep 60"), limits=Limits(wall_s=0.5))

    assert (done.exit_code, done.timed_out, done.output) == (None, True, b"begun\n")


async def test_long_output_keeps_head_and_tail(either: Sandbox) -> None:
    """The middle is left out, and it is said how much."""
    done = await either.run(shell("seq 1 10000"), limits=Limits(output_bytes=1000))

    assert done.truncated
    assert done.output.startswith(b"1\n2\n3\n")
    assert done.output.endswith(b"\n9999\n10000\n")
    assert b"bytes left out" in done.output
    assert len(done.output) < 1100


async def test_a_result_that_is_too_big_is_left_out(either: Sandbox) -> None:
    """A cap holds for all collected files together."""
    done = await either.run(
        shell("head -c 600 /dev/zero > /out/a; cp /out/a /out/b"),
        limits=Limits(collect_bytes=1000),
        collect=["/out/a", "/out/b"],
    )

    assert list(done.outputs) == ["/out/a"]


async def test_the_network_inside_is_a_loopback_of_its_own(sandbox: Sandbox) -> None:
    """Test suites that start servers on localhost work."""
    done = await sandbox.run(
        python(
            """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
client.send(b"x")
print(server.accept()[0].recv(1))
"""
        )
    )

    assert done.output == b"b'x'\n"


async def test_the_user_inside_has_a_name_and_no_rights(sandbox: Sandbox) -> None:
    """Not root, no capability, known to the password file."""
    done = await sandbox.run(
        python(
            """
import os, pwd, getpass
user = os.getuid()
rights = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
print(user != 0, pwd.getpwuid(user).pw_name, getpass.getuser(), rights, os.path.expanduser("~"))
"""
        )
    )

    assert done.output == b"True qe qe ['0000000000000000'] /tmp\n"


async def test_threads_and_processes_work(sandbox: Sandbox) -> None:
    """What test suites use of an operating system is there: pools, semaphores, pipes, a terminal."""
    done = await sandbox.run(
        python(
            """
import multiprocessing, pty
from concurrent.futures import ThreadPoolExecutor
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
with ThreadPoolExecutor(4) as threads:
    print(list(threads.map(abs, [-3])))
print(len(pty.openpty()))
"""
        )
    )

    assert done.output == b"[1, 2]\n[3]\n2\n"


async def test_runs_side_by_side_do_not_meet(sandbox: Sandbox, project: Path) -> None:
    """Ten runs over the same project each see their own changes only."""

    async def one(number: int) -> Finished:
        return await sandbox.run(
            shell(f"echo {number} >> data.txt; sleep 0.1; cat data.txt"),
            mounts=[Mount(project, "/src", layered=True)],
            cwd="/src",
        )

    done = await asyncio.gather(*(one(number) for number in range(10)))

    assert [run.output for run in done] == [f"base\n{number}\n".encode() for number in range(10)]


async def test_a_sandbox_that_cannot_be_built_says_why(sandbox: Sandbox, tmp_path: Path) -> None:
    """A mount that isn't there is our mistake, told with bubblewrap's own words."""
    with pytest.raises(SandboxUnavailable, match="Can't find source path"):
        await sandbox.run(["/bin/true"], mounts=[Mount(tmp_path / "missing", "/x")])


def test_without_bubblewrap_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to do, and nothing is run unconfined by itself."""
    broken = tmp_path / "bwrap"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.11.0 && exit\n'
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=os.pathsep)

    with pytest.raises(SandboxUnavailable, match=r"No permissions to create.*--unsafe-no-sandbox"):
        Sandbox.detect(scratch_root=tmp_path / "scratch")


async def test_a_dead_worker_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the worker is killed with SIGKILL in mid-run, the run dies with it, daemons included."""
    seconds = str(100_000 + os.getpid())
    program = (
        "import asyncio, pathlib\nfrom qefleet.workspace.sandbox import Sandbox\n"
        f"s = Sandbox.detect(scratch_root=pathlib.Path({str(tmp_path)!r}))\n"
        f"asyncio.run(s.run(['/bin/sh', '-c', '(setsid sleep {seconds} &); sleep {seconds}']))\n"
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    await _until(lambda: _sleepers(seconds) == 2, "the run to begin")

    worker.kill()
    await worker.wait()

    await _until(lambda: _sleepers(seconds) == 0, "the run to end")


async def _until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"waited in vain for {what}")


def _sleepers(seconds: str) -> int:
    return sum(process.info["cmdline"] == ["sleep", seconds] for process in psutil.process_iter(["cmdline"]))
