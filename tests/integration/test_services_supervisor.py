from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from worker.services import supervisor as supervising
from worker.services.service import Event, Service, ServiceFailed
from worker.services.supervisor import Supervisor

_SERVE = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + _SERVE


def _service(
    folder: Path, name: str, *, code: str = _SERVE, stage: int = 0, grace_s: float = 10.0
) -> Service:
    """A child that writes its process id to a file and is ready by then."""
    file = folder / f"{name}.pid"

    async def ready(pid: int) -> bool:
        return file.exists() and file.read_text() == str(pid)

    return Service(
        name=name,
        argv=[sys.executable, "-I", "-S", "-c", code, str(file)],
        env={"PATH": os.environ["PATH"]},
        cwd=folder,
        ready=ready,
        stage=stage,
        start_timeout_s=10.0,
        stop_grace_s=grace_s,
    )


async def _until(condition: Callable[[], object], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.05)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_killed_child_is_started_again(tmp_path: Path) -> None:
    """A child that dies has a successor, and people are told both in a line each."""
    events: list[Event] = []
    async with Supervisor(logs=tmp_path, announce=events.append) as supervisor:
        await supervisor.start([_service(tmp_path, "a")])
        first = supervisor.pids()["a"]

        os.kill(first, signal.SIGKILL)
        await _until(lambda: [e for e in events if e.kind == "restarted"])

        assert supervisor.pids()["a"] != first
        assert [e.kind for e in events] == ["starting", "ready", "died", "restarted"]
        assert "SIGKILL" in events[2].text


async def test_pause_grows_while_a_child_dies_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that can't live doesn't keep the machine busy."""
    monkeypatch.setattr(supervising, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(supervising, "BACKOFF_MAX_S", 0.4)
    once = "import os, sys\nif os.path.exists(sys.argv[1]): sys.exit('can not live')\n" + _SERVE
    events: list[Event] = []
    async with Supervisor(logs=tmp_path, announce=events.append) as supervisor:
        await supervisor.start([_service(tmp_path, "a", code=once)])
        os.kill(supervisor.pids()["a"], signal.SIGKILL)
        await _until(lambda: len([e for e in events if e.kind == "died"]) == 4)

    died = [e.text for e in events if e.kind == "died"]
    assert "again in 0.1 s" in died[0]
    assert [text.rpartition("next try in ")[2] for text in died[1:]] == ["0.2 s", "0.4 s", "0.4 s"]
    assert "can not live" in died[1]


async def test_child_that_ends_while_starting_is_quoted(tmp_path: Path) -> None:
    """The error names the service, its exit code, its log and its last words."""
    async with Supervisor(logs=tmp_path, announce=lambda _: None) as supervisor:
        with pytest.raises(
            ServiceFailed, match=r"a ended while starting: exit code 1 \(log: (.|\n)*no such luck"
        ) as caught:
            await supervisor.start([_service(tmp_path, "a", code="import sys; sys.exit('no such luck')")])

    assert caught.value.service == "a"


async def test_child_that_is_never_ready_is_an_error(tmp_path: Path) -> None:
    """Waiting has an end, and leaves no process behind."""
    service = _service(tmp_path, "a", code="import time; print('loading', flush=True); time.sleep(600)")
    async with Supervisor(logs=tmp_path, announce=lambda _: None) as supervisor:
        with pytest.raises(ServiceFailed, match="isn't ready after 0 s"):
            await supervisor.start([replace(service, start_timeout_s=0.3)])

        assert supervisor.pids() == {}


async def test_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A missing program is told by its name."""
    service = replace(_service(tmp_path, "a"), argv=["/no/such/program"])
    async with Supervisor(logs=tmp_path, announce=lambda _: None) as supervisor:
        with pytest.raises(ServiceFailed, match=r"/no/such/program: No such file"):
            await supervisor.start([service])


async def test_services_stop_in_the_reverse_order_of_their_stages(tmp_path: Path) -> None:
    """Who uses others ends before them."""
    events: list[Event] = []
    async with Supervisor(logs=tmp_path, announce=events.append) as supervisor:
        await supervisor.start([_service(tmp_path, "top", stage=1), _service(tmp_path, "base", stage=0)])
        pids = list(supervisor.pids().values())

    assert [e.service for e in events if e.kind == "ready"] == ["base", "top"]
    assert [e.service for e in events if e.kind == "stopped"] == ["top", "base"]
    assert not [pid for pid in pids if _alive(pid)]


async def test_child_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    """Stopping has an end, too."""
    async with Supervisor(logs=tmp_path, announce=lambda _: None) as supervisor:
        await supervisor.start([_service(tmp_path, "a", code=_STUBBORN, grace_s=0.3)])
        pid = supervisor.pids()["a"]

    assert not _alive(pid)


async def test_kill_ends_a_slow_stop_at_once(tmp_path: Path) -> None:
    """The second Ctrl-C doesn't wait for anybody's grace."""
    async with Supervisor(logs=tmp_path, announce=lambda _: None) as supervisor:
        await supervisor.start([_service(tmp_path, "a", code=_STUBBORN, grace_s=60.0)])
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0.2)

        supervisor.kill()
        await asyncio.wait_for(stopping, 5.0)

    assert supervisor.pids() == {}


async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """After `kill -9` of the supervisor none of its children is left."""
    script = f"""
import asyncio, os, sys
from pathlib import Path
from worker.services.service import Service
from worker.services.supervisor import Supervisor
async def ready(pid):
    return Path({str(tmp_path / "a.pid")!r}).exists()
async def main():
    async with Supervisor(logs=Path({str(tmp_path)!r}), announce=lambda e: None) as s:
        argv = [sys.executable, "-I", "-S", "-c", {_SERVE!r}, {str(tmp_path / "a.pid")!r}]
        env = dict(PATH=os.environ["PATH"])
        await s.start([Service(name="a", argv=argv, env=env, cwd=Path({str(tmp_path)!r}), ready=ready)])
        print(s.pids()["a"], flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert _alive(child)

    process.kill()
    await process.wait()

    await _until(lambda: not _alive(child), within_s=5.0)
