"""Known vulnerabilities of exact versions: pip-audit, which asks an advisory service.

It runs beside the worker and not in the sandbox, which has no network: it reads a list of names and
versions that we have written, and none of the target's code. It gets an empty home and no variables but
those that say how the network is reached. pip-audit says that nothing is vulnerable where it could not
look something up: strict mode, `skip_reason` and what is missing in its answer all make the answer none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qefleet.contracts.issues import Issue
from qefleet.tools.program import Tool, ToolReport, not_installed, read_report, without_value
from qefleet.tools.release.pins import Pin
from qefleet.workspace.sandbox import Finished

PIP_AUDIT = Tool(name="pip-audit", module="pip_audit", done=frozenset({0, 1}))

_INHERITED = (
    "PATH", "LANG", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy",
    "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
_MESSAGE_CHARS = 300
_REPORT_MAX = 64 << 20


def pin_of(issue: Issue) -> str:
    """The dependency that an issue of `audit` is about, such as `jinja2==2.4.1`."""
    return issue.message.partition(": ")[0]


async def audit(
    pins: Sequence[Pin], *, url: str | None = None, timeout_s: float = 120.0, python: str = sys.executable
) -> list[ToolReport[list[Issue]]]:
    """Ask about each pin; one run, and one more for each further version of a package.

    The first run without an answer is the last one.

    Args:
        pins: Sorted, each once.
        url: An OSV service's query address; PyPI's own advisories without it.
        timeout_s: Wall time of each run.
        python: Interpreter of the fleet's own environment.
    """
    rounds: list[dict[str, Pin]] = []
    for pin in pins:
        free = next((names for names in rounds if pin.name not in names), None)
        if free is None:
            rounds.append(free := {})
        free[pin.name] = pin
    reports: list[ToolReport[list[Issue]]] = []
    for names in rounds:
        reports.append(await _audit(list(names.values()), url, timeout_s, python))
        if reports[-1].value is None:
            break
    return reports


async def _audit(
    pins: Sequence[Pin], url: str | None, timeout_s: float, python: str
) -> ToolReport[list[Issue]]:
    version = PIP_AUDIT.version()
    if version is None:
        return not_installed(PIP_AUDIT)
    with tempfile.TemporaryDirectory(prefix="qe-audit-") as folder:
        (Path(folder) / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins))
        service = ["--vulnerability-service", "osv", "--osv-url", url] if url else []
        argv = [
            *(python, "-I", "-m", "pip_audit", "--requirement", "pins.txt", "--no-deps", "--disable-pip"),
            *("--strict", "--format", "json", "--progress-spinner", "off", "--cache-dir", "cache", *service),
        ]
        finished, report = await _run(argv, Path(folder), timeout_s)
    found = read_report(
        PIP_AUDIT,
        version,
        argv=argv,
        finished=finished,
        content=report,
        read=lambda content: _read(content, pins),
        name="pip-audit.json",
    )
    if found.value is None and not report and not finished.stopped:
        lines = finished.text.strip().splitlines() or ["it printed nothing"]
        said = lines[-1].removeprefix("ERROR:pip_audit._cli:")[-_MESSAGE_CHARS:]
        why = f"pip-audit could not look the dependencies up: {said}"
        return without_value(found, why)
    return found


async def _run(argv: Sequence[str], folder: Path, timeout_s: float) -> tuple[Finished, bytes]:
    """Run it in a folder that is its home too; its standard output is the report."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        env={**environment, "HOME": str(folder), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    output, complaint, timed_out = b"", b"", False
    try:
        async with asyncio.timeout(timeout_s):
            output, complaint = await process.communicate()
    except TimeoutError:
        timed_out = True
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await asyncio.shield(process.wait())
    code = process.returncode or 0
    finished = Finished(
        argv=tuple(argv),
        exit_code=None if timed_out else code if code >= 0 else 128 - code,
        output=complaint,
        truncated=False,
        timed_out=timed_out,
        duration_s=time.monotonic() - started,
        confined=False,
        stopped="time" if timed_out else None,
    )
    return finished, output[:_REPORT_MAX]


def _read(content: bytes, pins: Sequence[Pin]) -> list[Issue]:
    dependencies: list[dict[str, Any]] = json.loads(content)["dependencies"]
    skipped = [f"{found['name']}: {found['skip_reason']}" for found in dependencies if "skip_reason" in found]
    if skipped:
        raise ValueError("; ".join(skipped))
    by_pin = {(found["name"], found["version"]): found["vulns"] for found in dependencies}
    unknown = [str(pin) for pin in pins if (pin.name, pin.version) not in by_pin]
    if unknown:
        raise ValueError(f"it says nothing about {', '.join(unknown[:5])}")
    return [_issue(pin, vulnerability) for pin in pins for vulnerability in by_pin[pin.name, pin.version]]


def _issue(pin: Pin, vulnerability: dict[str, Any]) -> Issue:
    fixed: list[str] = vulnerability.get("fix_versions") or []
    mend = f"fixed in {', '.join(fixed)}" if fixed else "no fixed version is known"
    lines = str(vulnerability.get("description") or "no description").strip().splitlines()
    return Issue(
        id=f"{vulnerability['id']}@{pin}",
        tool=PIP_AUDIT.name,
        rule=vulnerability["id"],
        severity="high",  # pip-audit doesn't tell; what is known to be exploitable deserves the look
        message=f"{pin}: {lines[0][:_MESSAGE_CHARS]} ({mend})",
        path=pin.path,
    )
