"""Requests made from an API's description, by schemathesis: which answers break the description.

Against an application, the server runs in the sandbox with the target's interpreter, and schemathesis beside
it with the fleet's. Against a host that the user has allowed, schemathesis runs outside, on a description
that was read once and refers to nothing else, and follows no redirect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import yaml

from qefleet.contracts.api import Failure
from qefleet.contracts.issues import Severity
from qefleet.contracts.measured import ToolRun
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import Tool, ToolReport, not_installed, read_report
from qefleet.workspace.sandbox import Finished, Limits

SCHEMATHESIS = Tool(
    name="schemathesis", module="schemathesis.cli", extra="contracts", done=frozenset({0, 1, 2})
)
_REPORT = "schemathesis.ndjson"
_MOST_DESCRIPTION = 8 << 20
_FETCH_S = 30.0
_OUTPUT = 1 << 20
_SEVERITIES: dict[str, Severity] = {"critical": "high", "high": "high", "medium": "medium", "low": "low"}


@dataclass(frozen=True)
class Tested:
    """What came of the requests."""

    operations: int
    """In the description."""
    tested: int
    """Of them, those that a request was sent to."""
    requests: int
    failures: tuple[tuple[Severity, Failure], ...]
    """By severity, each kind of failure of an operation once; sorted."""

    @property
    def server_errors(self) -> int:
        """Operations that answered with a status of 500 or more, as far as that breaks the description."""
        return len({failure.operation for _, failure in self.failures if failure.check.startswith("ST101")})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to test.

    Args:
        description: Path on the server such as `/openapi.json`, or of a file in the project.
        max_examples: Requests generated for an operation in each phase.
        seed: The same seed gives the same requests.
        timeout_s: Wall time after which it is stopped.
    """

    description: str
    max_examples: int
    seed: int
    timeout_s: float

    def arguments(self, location: str, *, url: str | None, report: str) -> list[str]:
        """For schemathesis; `url` where the description isn't read from the server itself."""
        return [
            "run",
            location,
            *([] if url is None else ["--url", url]),
            f"--max-examples={self.max_examples}",
            f"--seed={self.seed}",
            "--generation-database=none",
            "--phases=examples,coverage,fuzzing",
            "--continue-on-failure",
            "--max-redirects=0",
            "--request-timeout=10",
            "--workers=1",
            "--no-color",
            "--report=ndjson",
            f"--report-ndjson-path={report}",
        ]


async def ask_application(
    ground: Ground, plan: Plan, *, app: str | None, command: Sequence[str] = ()
) -> ToolReport[Tested]:
    """Test what the project serves, on the sandbox's own loopback.

    Args:
        ground: The project's workspace.
        plan: How to test.
        app: `module:name` of an ASGI or WSGI application.
        command: Starts a server in its place, on the port that takes the place of `PORT`.
    """
    version = SCHEMATHESIS.version()
    if version is None:
        return not_installed(SCHEMATHESIS)
    served = [ground.python, "/qe/qe_serve.py", app or "", "PORT", "PACKAGES"]
    on_server = plan.description.startswith("/")
    location = f"http://127.0.0.1:PORT{plan.description}" if on_server else f"/src/{plan.description}"
    url = None if on_server else "http://127.0.0.1:PORT"
    argv = [ground.tools_python, "-I", "-m", SCHEMATHESIS.module]
    argv += plan.arguments(location, url=url, report=f"/out/{_REPORT}")
    outcome = await run_program(
        ground,
        "qe_against_server",
        {"server": list(command) or served, "argv": argv, "starts_s": 30, "tool": SCHEMATHESIS.name},
        files={"/qe/qe_serve.py": package_files("qefleet.tools.inside").joinpath("qe_serve.py").read_bytes()},
        collect=[_REPORT],
        limits=replace(Limits(), wall_s=plan.timeout_s, cpu_s=plan.timeout_s),
        tools=True,
    )
    return _report(version, argv, outcome.finished, outcome.outputs.get(_REPORT))


async def ask_host(plan: Plan, *, origin: str, project: Path) -> ToolReport[Tested]:
    """Test what answers at an origin that the user has allowed.

    Args:
        plan: How to test.
        origin: Scheme, host and port.
        project: Has the description, where it isn't read from the server.
    """
    version = SCHEMATHESIS.version()
    if version is None:
        return not_installed(SCHEMATHESIS)
    try:
        description = await _description(plan, origin, project)
    except (httpx.HTTPError, OSError, ValueError, yaml.YAMLError) as error:
        why = f"the description at {plan.description} can't be used ({type(error).__name__}: {error})"[:500]
        run = ToolRun(
            tool=SCHEMATHESIS.name, version=version, argv=[], exit_code=None, duration_s=0.0, problem=why
        )
        return ToolReport(run=run, value=None, reason=why)
    with tempfile.TemporaryDirectory(prefix="qe-contract-") as name:
        folder = Path(name)
        (folder / "openapi.json").write_text(description, "utf-8")
        arguments = plan.arguments("openapi.json", url=origin, report=_REPORT)
        argv = [sys.executable, "-I", "-m", SCHEMATHESIS.module, *arguments]
        finished = await _outside(argv, folder, plan.timeout_s)
        report = folder / _REPORT
        content = report.read_bytes() if report.is_file() else None
    return _report(version, argv, finished, content)


def read_events(content: bytes) -> Tested:
    """Read schemathesis' events, one JSON object a line.

    Raises:
        ValueError: They don't come to their end, or the description couldn't be loaded.
    """
    events = [cast("dict[str, Any]", json.loads(line)) for line in content.splitlines() if line.strip()]
    for event in events:
        if "FatalError" in event:
            raise ValueError(str(event["FatalError"]["exception"]["message"])[:300])
    ended = [event["EngineFinished"] for event in events if "EngineFinished" in event]
    if not ended or ended[0]["stop_reason"] != "completed":
        raise ValueError("it didn't come to its end")
    loaded = next(event["LoadingFinished"] for event in events if "LoadingFinished" in event)
    tested: set[str] = set()
    requests = 0
    failures: dict[tuple[str, str], tuple[Severity, Failure]] = {}
    for event in events:
        recorder = event.get("ScenarioFinished", {}).get("recorder", {})
        sent: dict[str, Any] = recorder.get("interactions", {})
        requests += len(sent)
        tested |= {recorder["label"]} if sent else set()
        for case, checks in recorder.get("checks", {}).items():
            for check in checks:
                if check["status"] == "failure":
                    severity, failure = _failure(check, recorder["label"], sent.get(case, {}))
                    failures.setdefault((failure.operation, failure.check), (severity, failure))
    return Tested(
        operations=loaded["statistic"]["operations"]["total"],
        tested=len(tested),
        requests=requests,
        failures=tuple(found for _, found in sorted(failures.items())),
    )


def _failure(check: dict[str, Any], label: str, interaction: dict[str, Any]) -> tuple[Severity, Failure]:
    given: dict[str, Any] = check["failure_info"]["failure"]
    request: dict[str, Any] = interaction.get("request", {})
    parts = urlsplit(str(request.get("uri", "")))
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    response: dict[str, Any] = interaction.get("response") or {}
    status = response.get("status_code")
    message = str(given.get("message") or "").strip() or f"answered {status}"
    return _SEVERITIES.get(str(given["severity"]), "medium"), Failure(
        operation=str(given.get("operation") or label),
        check=f"{given['code']} {given['title']}",
        example=f"{request.get('method', '?')} {target}"[:500],
        message=message[:1000],
    )


def _report(
    version: str, argv: Sequence[str], finished: Finished, content: bytes | None
) -> ToolReport[Tested]:
    return read_report(
        SCHEMATHESIS,
        version,
        argv=argv,
        finished=finished,
        content=content,
        read=read_events,
        name=_REPORT,
        media_type="application/x-ndjson",
    )


async def _description(plan: Plan, origin: str, project: Path) -> str:
    """As JSON. Nothing in it may make schemathesis ask another host: no reference leaves the description."""
    if plan.description.startswith("/"):
        async with httpx.AsyncClient(timeout=_FETCH_S, trust_env=False) as client:
            answer = await client.get(origin + plan.description)
            answer.raise_for_status()
            if answer.is_redirect:
                raise ValueError("it redirects")
            text = answer.text
    else:
        text = await asyncio.to_thread(_read_inside, project, plan.description)
    if len(text) > _MOST_DESCRIPTION:
        raise ValueError(f"it is larger than {_MOST_DESCRIPTION} bytes")
    loaded = json.loads(json.dumps(yaml.load(text, yaml.CSafeLoader), default=str))
    if outside := sorted(_references(loaded)):
        raise ValueError(f"it refers to {outside[0]}, outside of itself")
    return json.dumps(loaded)


def _read_inside(project: Path, path: str) -> str:
    file = (project / path).resolve()
    if not file.is_relative_to(project.resolve()):
        raise ValueError("it isn't in the project")
    return file.read_text("utf-8")


def _references(value: Any) -> set[str]:
    found: set[str] = set()
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            held = cast("dict[str, Any]", part)
            found |= {
                link
                for word in ("$ref", "$dynamicRef", "$id", "operationRef")
                if isinstance(link := held.get(word), str) and not link.startswith("#")
            }
            stack += held.values()
        elif isinstance(part, list):
            stack += cast("list[Any]", part)
    return found


async def _outside(argv: Sequence[str], folder: Path, timeout_s: float) -> Finished:
    """Run our own tool as a plain process with a clean environment."""
    started = time.monotonic()
    log = folder / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        timed_out = False
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            timed_out = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    printed = log.read_bytes()[-_OUTPUT:]
    return Finished(
        argv=tuple(argv),
        exit_code=None if timed_out else process.returncode,
        output=printed,
        truncated=False,
        timed_out=timed_out,
        duration_s=time.monotonic() - started,
        confined=False,
        stopped="time" if timed_out else None,
    )
