"""Start a server, wait until it answers, run a tool against it, stop both: `/qe/spec.json` in.

`PORT` in any argument stands for a port that is free, the server's argument `PACKAGES` for the folder of the
fleet's own packages. Ends with 70 where the server didn't start, the reason
last in what is printed; else as the tool did. Run with the fleet's interpreter; the server brings its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

_NOT_STARTED = 70


def main() -> int:
    """Exit code of the tool."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    port = _free_port()
    tool = [part.replace("PORT", str(port)) for part in spec["argv"]]
    command = spec.get("server")
    if command is None:
        return _run(tool)
    log = Path("/out/server.log")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                sysconfig.get_path("purelib") if part == "PACKAGES" else part.replace("PORT", str(port))
                for part in command
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **spec.get("env", {}), "PORT": str(port)},
            start_new_session=True,
        )
    try:
        if reason := _wait(server, port, spec["starts_s"]):
            lines = log.read_text("utf-8", "replace").strip().splitlines() or ["it printed nothing"]
            print(f"the server {reason}: {lines[-1][:300]}")  # noqa: T201 - read as the reason
            return _NOT_STARTED
        return _run(tool)
    finally:
        _stop(server)


def _run(tool: list[str]) -> int:
    code = subprocess.run(tool, check=False, cwd="/tmp").returncode  # noqa: S108 - inside the sandbox
    return code if code >= 0 else 128 - code


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(server: subprocess.Popen[bytes], port: int, limit_s: float) -> str | None:
    """None once it accepts connections; else why it never will."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if server.poll() is not None:
            return f"ended with exit code {server.returncode} before it answered"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return None
    return f"did not answer within {limit_s:g} s"


def _stop(server: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    server.wait()


if __name__ == "__main__":
    sys.exit(main())
