from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from temporalio.client import WorkflowExecutionStatus

from qefleet.memory.postgres import PostgresMemory
from qefleet.sql.database import open_pool
from worker.services.connection import at, connect
from worker.services.embedded import EmbeddedServices, Part
from worker.services.health import answers
from worker.services.service import Event, ServiceFailed
from worker.services.state import AlreadyRunning, running
from worker.settings import ChosenModel, Settings

_NO_MODEL = ChosenModel(model="none", reason="tests")
_CANARY = "canary-4e1f"


def _settings(folder: Path) -> Settings:
    """Settings of a user with a provider's key, another cloud's secret, and busy default ports."""
    settings = Settings.load(env_file=None)
    environment = {k: v for k, v in settings.environment.items() if not k.startswith(("QE_", "TEMPORAL_"))}
    return replace(
        settings,
        database_url=None,
        folders=replace(settings.folders, data=folder),
        gateway=replace(settings.gateway, url=None, secret=None),
        environment=environment
        | {
            "TEMPORAL_CONFIG_FILE": "/dev/null",
            "OPENAI_API_KEY": _CANARY,
            "AWS_SECRET_ACCESS_KEY": _CANARY,
        },
    )


@asynccontextmanager
async def _services(
    folder: Path, *, parts: tuple[Part, ...], events: list[Event] | None = None
) -> AsyncGenerator[EmbeddedServices]:
    told = events if events is not None else []
    async with EmbeddedServices(
        _settings(folder), model=_NO_MODEL, announce=told.append, parts=parts
    ) as services:
        yield services


async def _until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.1)


def _environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text(errors="replace")


async def test_everything_starts_answers_and_is_started_again(tmp_path: Path) -> None:
    """All parts serve; only the gateway holds the key; one that is killed comes back on its address."""
    events: list[Event] = []
    async with _services(
        tmp_path, parts=("postgres", "temporal", "gateway", "worker"), events=events
    ) as services:
        up = services.up
        pids = services.pids()
        holders = [
            name
            for name, pid in pids.items()
            for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            if _CANARY in _environment_of(process.pid)
        ]

        assert set(pids) == {"postgres", "temporal", "gateway", "worker"}
        assert holders == ["gateway"]
        assert "AWS_SECRET_ACCESS_KEY" not in _environment_of(pids["gateway"])
        assert running(tmp_path) == up
        assert stat.S_IMODE((tmp_path / "up.json").stat().st_mode) == 0o600
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
            async with _services(tmp_path, parts=("postgres",)):
                pass

        for victim in ("gateway", "postgres"):
            os.kill(pids[victim], signal.SIGKILL)
        await _until(lambda: {e.service for e in events if e.kind == "restarted"} == {"gateway", "postgres"})
        assert await answers(f"{up.addresses.gateway}/healthz")

    assert [e.service for e in events if e.kind == "stopped"][:2] == ["worker", "gateway"]
    assert running(tmp_path) is None


async def test_state_survives_kill_9_of_everything(tmp_path: Path) -> None:
    """After the supervisor is killed nothing of it is left, and the next one has runs and rows again."""
    script = f"""
import asyncio
from tests.integration.test_services_embedded import _services
from pathlib import Path
async def main():
    async with _services(Path({str(tmp_path)!r}), parts=("postgres", "temporal")) as services:
        print("ready", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert first.stdout is not None
    assert await first.stdout.readline() == b"ready\n"
    up = running(tmp_path)
    assert up is not None
    family = psutil.Process(up.pid).children(recursive=True)
    async with await open_pool(up.addresses.database_url) as pool:
        await PostgresMemory(pool).store("k", "kept")
    client = await connect(at(up.addresses.temporal, "default"))
    await client.start_workflow("Pipeline", "pypi:a", id="kept", task_queue="qe-fleet")

    first.kill()
    await first.wait()
    await _until(lambda: not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])

    async with _services(tmp_path, parts=("postgres", "temporal")) as services:
        addresses = services.up.addresses
        async with await open_pool(addresses.database_url) as pool:
            entry = await PostgresMemory(pool).retrieve("k")
        client = await connect(at(addresses.temporal, "default"))
        about = await client.get_workflow_handle("kept").describe()
    assert entry is not None
    assert entry.value == "kept"
    assert about.status == WorkflowExecutionStatus.RUNNING


async def test_service_that_does_not_start_takes_the_others_along(tmp_path: Path) -> None:
    """A start that fails leaves nothing running and nothing locked, and tells what was said last."""
    cluster = tmp_path / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    before = {process.pid for process in psutil.Process().children(recursive=True)}

    with pytest.raises(ServiceFailed, match=r"postgres ended while starting(.|\n)*its last lines:\n  \| "):
        async with _services(tmp_path, parts=("postgres", "temporal")):
            pass

    after = {p.pid for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE}
    assert after <= before
    assert running(tmp_path) is None
