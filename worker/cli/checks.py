"""The checks of `qe doctor`. Each tries the thing itself rather than look whether a file is there."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import asyncpg
from pydantic import BaseModel

from qefleet.errors import QeError
from qefleet.llm.local import find_local_model
from qefleet.sql.database import open_pool
from qefleet.sql.embedded import EmbeddedPostgres
from qefleet.workspace.sandbox import Sandbox
from worker.services.connection import at, connect
from worker.services.health import answers
from worker.services.ports import is_free
from worker.services.state import running
from worker.services.temporal import temporal_program
from worker.settings import (
    GATEWAY_PORT,
    LOCAL_MODEL_PORT,
    PROVIDERS,
    TEMPORAL_PORT,
    UI_PORT,
    Settings,
    resolve_model,
)

_ENOUGH_BYTES = 5_000_000_000
_TRY_S = 20.0
KNOWN_VARIABLES = {
    *(
        "QE_DATABASE_URL",
        "QE_DATA_DIR",
        "QE_CACHE_DIR",
        "QE_PRICES",
        "QE_EMBEDDINGS",
        "QE_PROJECT_BUDGET_USD",
        "QE_PROJECT_BUDGET_PERIOD",
        "QE_ON_UNKNOWN",
        "QE_LEASE_S",
        "QE_UPSTREAM_TIMEOUT_S",
        "QE_LEARNING",
        "QE_UNSAFE_NO_SANDBOX",
        "QE_BUILD_ID",
        "QE_MAKE_CURRENT",
    ),
    *("QE_MODEL", "QE_MODEL_SIMPLE", "QE_MODEL_MODERATE", "QE_MODEL_COMPLEX", "QE_MODEL_CRITICAL"),
    *(
        "QE_GATEWAY_URL",
        "QE_GATEWAY_HOST",
        "QE_GATEWAY_PORT",
        "QE_GATEWAY_SECRET",
        "QE_TEMPORAL_PORT",
        "QE_UI_PORT",
    ),
    *("QE_LOCAL_MODEL", "QE_LOCAL_MODEL_URL", "QE_LOCAL_MODEL_PORT"),
}


class Finding(BaseModel):
    """What a check found."""

    name: str
    status: Literal["ok", "info", "broken"]
    """`info` is nothing to mend, but worth knowing."""
    found: str
    mend: str = ""


async def check_all(settings: Settings) -> list[Finding]:
    """All checks, in the order in which they are shown."""
    return [finding async for finding in _checks(settings)]


async def _checks(settings: Settings) -> AsyncIterator[Finding]:
    yield Finding(name="python", status="ok", found=f"{platform.python_version()} at {sys.executable}")
    yield _variables(settings)
    yield await _program("git", "git", mend="install git with your system's package manager")
    yield await _program(
        "uv", str(Path(sys.executable).with_name("uv")), mend="`make setup`, or pip install uv"
    )
    yield _data_folder(settings)
    yield _disk(settings)
    yield await _guarded("sandbox", lambda: _sandbox(settings))
    if running(settings.folders.data) is None:
        yield await _guarded("postgres", lambda: _postgres(settings))
        yield await _guarded("temporal", lambda: _temporal(settings))
        yield _ports(settings)
    yield _model(settings)
    yield await _guarded("local model", lambda: _local_model(settings))
    async for finding in _system(settings):
        yield finding


async def _guarded(name: str, check: Callable[[], Awaitable[Finding]]) -> Finding:
    """A check whose own error is what was found; our errors say how to mend them."""
    try:
        return await asyncio.wait_for(check(), _TRY_S)
    except QeError as error:
        return Finding(name=name, status="broken", found=str(error))
    except (OSError, TimeoutError, RuntimeError) as error:
        return Finding(name=name, status="broken", found=f"{type(error).__name__}: {error}")


def _variables(settings: Settings) -> Finding:
    unknown = sorted(v for v in settings.environment if v.startswith("QE_") and v not in KNOWN_VARIABLES)
    if unknown:
        return Finding(
            name="settings",
            status="info",
            found=f"unknown, and without effect: {', '.join(unknown)}",
            mend="misspelt?",
        )
    given = sorted(v for v in settings.environment if v in KNOWN_VARIABLES)
    return Finding(
        name="settings", status="ok", found=f"set: {', '.join(given)}" if given else "all by default"
    )


async def _program(name: str, program: str, *, mend: str) -> Finding:
    path = shutil.which(program) or shutil.which(name)
    if path is None:
        return Finding(name=name, status="broken", found="not installed", mend=mend)
    code, said = await _run(path, "--version")
    status = "ok" if code == 0 else "broken"
    return Finding(name=name, status=status, found=f"{said} at {path}", mend="" if code == 0 else mend)


async def _run(*argv: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace").strip().partition("\n")[0]


def _data_folder(settings: Settings) -> Finding:
    data = settings.folders.data
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data) as probe:
            probe.write(b"qe")
    except OSError as error:
        return Finding(
            name="data folder",
            status="broken",
            found=f"{data}: {error.strerror}",
            mend="make it writable, or set QE_DATA_DIR to a folder that is",
        )
    return Finding(name="data folder", status="ok", found=str(data))


def _disk(settings: Settings) -> Finding:
    place = next(p for p in (settings.folders.data, *settings.folders.data.parents) if p.exists())
    free = shutil.disk_usage(place).free
    enough = free > _ENOUGH_BYTES
    return Finding(
        name="disk",
        status="ok" if enough else "broken",
        found=f"{free / 1e9:.1f} GB free",
        mend=""
        if enough
        else "5 GB are good to have: make room, or set QE_DATA_DIR and QE_CACHE_DIR elsewhere",
    )


async def _sandbox(settings: Settings) -> Finding:
    with tempfile.TemporaryDirectory(prefix="qe-doctor-") as scratch:
        sandbox = Sandbox.detect(scratch_root=Path(scratch))
        finished = await sandbox.run(["/bin/sh", "-c", "id -u"])
    said = finished.output.decode(errors="replace").strip()
    if finished.exit_code != 0:
        return Finding(name="sandbox", status="broken", found=f"bubblewrap doesn't run a program: {said}")
    note = "; QE_UNSAFE_NO_SANDBOX is set and switches it off" if settings.unsafe_no_sandbox else ""
    who = f"uid {said}" if said != str(os.geteuid()) else "your user, in namespaces of its own"
    return Finding(
        name="sandbox", status="info" if note else "ok", found=f"bubblewrap runs programs as {who}{note}"
    )


async def _postgres(settings: Settings) -> Finding:
    if settings.database_url:
        async with await open_pool(settings.database_url, max_size=1) as pool:
            return Finding(name="postgres", status="ok", found=f"yours, {await _version(pool)}")
    with tempfile.TemporaryDirectory(prefix="qe-doctor-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        await postgres.start()
        try:
            async with await open_pool(postgres.dsn, max_size=1) as pool:
                return Finding(
                    name="postgres", status="ok", found=f"embedded, starts: {await _version(pool)}"
                )
        finally:
            await postgres.stop()


async def _version(pool: asyncpg.Pool) -> str:
    return f"Postgres {await pool.fetchval('SHOW server_version')}"


async def _temporal(settings: Settings) -> Finding:
    config = settings.temporal()
    if address := config.get("target_host"):
        await connect(config)
        return Finding(name="temporal", status="ok", found=f"yours answers at {address}")
    program = temporal_program(settings)
    code, said = await _run(program, "--version")
    if code != 0:
        return Finding(
            name="temporal", status="broken", found=said, mend=f"{program} doesn't run: reinstall it"
        )
    return Finding(name="temporal", status="ok", found=f"{said} at {program}")


def _ports(settings: Settings) -> Finding:
    ports = settings.ports
    wanted = (
        (ports.temporal, TEMPORAL_PORT, "QE_TEMPORAL_PORT"),
        (ports.ui, UI_PORT, "QE_UI_PORT"),
        (ports.gateway, GATEWAY_PORT, "QE_GATEWAY_PORT"),
        (ports.local_model, LOCAL_MODEL_PORT, "QE_LOCAL_MODEL_PORT"),
    )
    named = [f"{named} ({variable})" for named, _, variable in wanted if named and not is_free(named)]
    if named:
        return Finding(
            name="ports",
            status="broken",
            found=f"in use: {', '.join(named)}",
            mend="stop who uses them, or unset the variables to have free ones chosen",
        )
    busy = [str(default) for named, default, _ in wanted if not named and not is_free(default)]
    found = f"{', '.join(busy)} in use: free ones will be chosen" if busy else "free"
    return Finding(name="ports", status="info" if busy else "ok", found=found)


def _model(settings: Settings) -> Finding:
    chosen = resolve_model(settings)
    keys = [next(v for v in p.variables if settings.environment.get(v)) for p in settings.keyed_providers()]
    present = f"; keys present: {', '.join(keys)}" if keys else ""
    provider = chosen.model.partition("/")[0]
    known = next((p for p in PROVIDERS if p.name == provider), None)
    if known and known not in settings.keyed_providers() and not settings.gateway.url:
        return Finding(
            name="model",
            status="broken",
            found=f"{chosen.model}, but {known.variables[0]} isn't set",
            mend=f"set {known.variables[0]} for `qe up`, or another QE_MODEL",
        )
    return Finding(
        name="model",
        status="info" if chosen.model == "none" else "ok",
        found=f"{chosen.model}: {chosen.reason}{present}",
    )


async def _local_model(settings: Settings) -> Finding:
    found = await find_local_model(
        settings.folders.cache,
        choice=settings.models.local,
        ollama_host=settings.environment.get("OLLAMA_HOST"),
    )
    if found:
        return Finding(name="local model", status="ok", found=f"{found.model}, {found.origin}")
    return Finding(
        name="local model",
        status="info",
        found="not here yet: fetched when QE_MODEL=local is first used, 1.1 GB",
    )


async def _system(settings: Settings) -> AsyncIterator[Finding]:
    up = running(settings.folders.data)
    if up is None:
        yield Finding(
            name="qe up", status="info", found="not running; `qe run` starts what it needs for its time"
        )
        return
    yield Finding(name="qe up", status="ok", found=f"running as process {up.pid} ({up.command})")

    async def database() -> Finding:
        async with await open_pool(up.addresses.database_url, max_size=1) as pool:
            return Finding(name="postgres", status="ok", found=f"answers, {await _version(pool)}")

    async def gateway() -> Finding:
        well = await answers(f"{up.addresses.gateway}/healthz")
        return Finding(
            name="gateway",
            status="ok" if well else "broken",
            found=f"{'answers' if well else 'no answer'} at {up.addresses.gateway}",
            mend="" if well else f"see {up.secret_file.parent / 'logs' / 'gateway.log'}",
        )

    async def temporal() -> Finding:
        await connect(at(up.addresses.temporal, up.addresses.namespace))
        return Finding(
            name="temporal", status="ok", found=f"answers at {up.addresses.temporal}, UI {up.addresses.ui}"
        )

    yield await _guarded("postgres", database)
    yield await _guarded("gateway", gateway)
    yield await _guarded("temporal", temporal)
