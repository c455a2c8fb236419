"""Load by locust: on a system that is started in the sandbox, or on one of the user's own elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from qefleet.contracts.performance import HotFunction, PathLoad
from qefleet.tools.ground import Ground, program_source, read_json, run_program
from qefleet.tools.program import Tool, ToolReport, not_installed, read_report, without_value
from qefleet.workspace.sandbox import Finished, Limits

LOCUST = Tool(name="locust", extra="performance")

_FINISH_S = 5
"""Requests that are under way at the end may take so long."""
_START_S = 30.0
"""For locust itself."""
_LISTED_FUNCTIONS = 10
_LONGEST = 200
_LOG_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a system.

    Args:
        paths: `method`, `path`, `body` and `weight` of each.
        users: Who ask at the same time.
        spawn_rate: Users that are added in a second.
        duration_s: For how long.
        wait_s: What each user waits between an answer and the next request.
        request_timeout_s: After which a request has failed.
    """

    paths: Sequence[Mapping[str, Any]]
    users: int
    spawn_rate: float
    duration_s: int
    wait_s: float
    request_timeout_s: float

    @property
    def limit_s(self) -> float:
        """Wall time after which locust must have ended."""
        return self.duration_s + _FINISH_S + _START_S

    def as_json(self, host: str) -> bytes:
        """As our locustfile reads it."""
        asked = {"host": host, "wait_s": self.wait_s, "timeout_s": self.request_timeout_s}
        return json.dumps({**asked, "paths": [dict(path) for path in self.paths]}).encode()

    def arguments(self, folder: str, report: str) -> list[str]:
        """Locust's, with our locustfile in `folder`; it adds `.json` to the report's name."""
        return [
            f"--locustfile={folder}/qe_locustfile.py",
            "--headless",
            f"--users={self.users}",
            f"--spawn-rate={self.spawn_rate:g}",
            f"--run-time={self.duration_s}s",
            f"--stop-timeout={_FINISH_S}",
            f"--json-file={report}",
            "--only-summary",
            "--exit-code-on-error=0",
            "--loglevel=WARNING",
        ]


@dataclass(frozen=True)
class Loaded:
    """What load on a system gave."""

    report: ToolReport[list[PathLoad]]
    """One a path, in the order of their ids, all of them together last."""
    profile: list[HotFunction] = field(default_factory=list[HotFunction])


async def load_system(
    ground: Ground, command: Sequence[str], port: int, load: Load, *, ready_s: float, profile: bool = False
) -> Loaded:
    """Start a system in the sandbox, with the target's interpreter, and put load on it there.

    Args:
        ground: The project's workspace.
        command: How the system is started; `{python}` stands for the target's interpreter.
        port: On which it answers.
        load: What is asked of it.
        ready_s: How long it may take until it takes connections.
        profile: Have a look at its functions too; that slows it down.
    """
    version = LOCUST.version()
    if version is None:
        return Loaded(not_installed(LOCUST))
    argv = [ground.tools_python, "-I", "-m", "locust", *load.arguments("/qe", "/out/locust")]
    spec = {
        "argv": argv,
        "command": [part.replace("{python}", ground.python) for part in command],
        "port": port,
        "ready_s": ready_s,
        "profile": profile,
    }
    limit_s = ready_s + load.limit_s
    outcome = await run_program(
        ground,
        "qe_load",
        spec,
        files={
            "/qe/qe_system.py": program_source("qe_system"),
            "/qe/qe_locustfile.py": program_source("qe_locustfile"),
            "/qe/profile/sitecustomize.py": program_source("qe_sampler"),
            "/qe/load.json": load.as_json(f"http://127.0.0.1:{port}"),
        },
        collect=["load.json", "locust.json", "profile.json"],
        limits=replace(Limits(), wall_s=limit_s, cpu_s=limit_s),
        tools=True,
    )
    answer = _object(outcome.outputs.get("load.json"))
    finished = outcome.finished
    if finished.exit_code == 0:
        finished = replace(
            finished, exit_code=answer.get("exit_code"), duration_s=answer.get("took_s", finished.duration_s)
        )
    report = read_report(
        LOCUST,
        version,
        argv=argv,
        finished=finished,
        content=outcome.outputs.get("locust.json"),
        read=lambda content: read_loads(content, duration_s=load.duration_s),
        name="locust.json",
    )
    if why := answer.get("why"):
        report = without_value(report, str(why))
    return Loaded(report, _hot_functions(_object(outcome.outputs.get("profile.json"))))


async def load_origin(origin: str, load: Load) -> Loaded:
    """Put load on a system elsewhere, from a child process with a clean environment.

    Args:
        origin: Scheme, host and port; the caller has made sure that it may be sent requests to.
        load: What is asked of it.
    """
    version = LOCUST.version()
    if version is None:
        return Loaded(not_installed(LOCUST))
    with tempfile.TemporaryDirectory(prefix="qe-load-") as made:
        folder = Path(made)
        (folder / "qe_locustfile.py").write_bytes(program_source("qe_locustfile"))
        (folder / "load.json").write_bytes(load.as_json(origin))
        argv = [sys.executable, "-I", "-m", "locust", *load.arguments(made, f"{made}/locust")]
        finished = await _child(argv, folder, load.limit_s)
        kept = folder / "locust.json"
        content = kept.read_bytes() if kept.is_file() else None
    shown = [part.replace(made, "/qe") for part in argv]
    return Loaded(
        read_report(
            LOCUST,
            version,
            argv=shown,
            finished=finished,
            content=content,
            read=lambda content: read_loads(content, duration_s=load.duration_s),
            name="locust.json",
        )
    )


async def _child(argv: Sequence[str], folder: Path, limit_s: float) -> Finished:
    """Run a program of the fleet's own; it is gone when this returns or is cancelled."""
    started = time.monotonic()
    log = folder / "log"
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    timed_out = False
    try:
        async with asyncio.timeout(limit_s):
            await child.wait()
    except TimeoutError:
        timed_out = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        code = await child.wait()
    text = log.read_bytes()
    return Finished(
        argv=tuple(argv),
        exit_code=None if timed_out else code if code >= 0 else 128 - code,
        output=text[-_LOG_BYTES:],
        truncated=len(text) > _LOG_BYTES,
        timed_out=timed_out,
        duration_s=time.monotonic() - started,
        confined=False,
        stopped="time" if timed_out else None,
    )


def read_loads(content: bytes, *, duration_s: float) -> list[PathLoad]:
    """Figures by path of a report by locust, all together last.

    Args:
        content: The report.
        duration_s: Of the load. Locust's own time begins with the first answer, and a few would make a
            rate of thousands; it counts where the last answers came later.

    Raises:
        ValueError: It is none, or no request was sent.
    """
    entries: list[dict[str, Any]] = json.loads(content)
    if not any(entry["num_requests"] for entry in entries):
        raise ValueError("no request was sent")
    first = min(entry["start_time"] for entry in entries)
    last = max(entry["last_request_timestamp"] or first for entry in entries)
    took_s = max(duration_s, last - first)
    loads = [
        _figures(f"{entry['method']} {entry['name']}", [entry], took_s)
        for entry in entries
        if entry["num_requests"]
    ]
    return [*sorted(loads, key=lambda load: load.id), _figures("all", entries, took_s)]


def _figures(name: str, entries: Sequence[Mapping[str, Any]], took_s: float) -> PathLoad:
    times: Counter[float] = Counter()
    for entry in entries:
        for time_ms, count in entry["response_times"].items():
            times[float(time_ms)] += int(count)
    requests = sum(int(entry["num_requests"]) for entry in entries)
    return PathLoad(
        id=name,
        requests=requests,
        failures=sum(int(entry["num_failures"]) for entry in entries),
        p50_ms=percentile(times, 50),
        p95_ms=percentile(times, 95),
        p99_ms=percentile(times, 99),
        rps=requests / took_s,
    )


def percentile(times: Mapping[float, int], percent: float) -> float:
    """The least time within which so many percent of the requests were answered (nearest rank).

    Args:
        times: Number of requests by time; not empty.
        percent: Above 0, at most 100.
    """
    rank = math.ceil(sum(times.values()) * percent / 100)
    seen = 0
    for time_ms in sorted(times):
        seen += times[time_ms]
        if seen >= rank:
            return time_ms
    raise ValueError("no response time was kept")


def _hot_functions(found: Mapping[str, Any]) -> list[HotFunction]:
    samples = {place: count for place, count in found.items() if isinstance(count, int) and count > 0}
    total = sum(samples.values())
    hottest = sorted(samples.items(), key=lambda item: (-item[1], item[0]))[:_LISTED_FUNCTIONS]
    return [HotFunction(id=place[:_LONGEST], share_percent=100 * count / total) for place, count in hottest]


def _object(content: bytes | None) -> dict[str, Any]:
    """A JSON object that the system may have written over; empty when it is none."""
    found = read_json(content)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
