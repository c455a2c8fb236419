"""Start processes of a system under test, wait until they answer, and end them.

Not a program of its own: it is laid beside the programs that use it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

_POLL_S = 0.02
_GRACE_S = 1.0
_TAIL = 4096


class Service:
    """One process, its children with it.

    Args:
        name: For messages and the name of its log.
        argv: How to start it, in `/src`.
        port: On which it will answer, at 127.0.0.1.
        env: Added to the environment of this process.
    """

    def __init__(self, name: str, argv: list[str], *, port: int, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.port = port
        self._argv = argv
        self._env = {**os.environ, **(env or {})}
        self._log = Path(__file__).with_name(f"{name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it; why it couldn't be, empty where it could."""
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._argv,
                    cwd="/src",
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            return f"{self.name} can't be started: {error}"
        return ""

    def wait(self, limit_s: float) -> str:
        """Wait until it takes connections; why it doesn't, empty where it does."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return ""
            if not self.alive():
                return f"{self.name} ended before it answered on port {self.port}: {self.last_line()}"
            time.sleep(_POLL_S)
        return f"{self.name} didn't answer on port {self.port} within {limit_s:g} s: {self.last_line()}"

    def alive(self) -> bool:
        """Whether the process that was started is still there."""
        return self._process is not None and self._process.poll() is None

    def last_line(self) -> str:
        """The end of what it printed."""
        try:
            text = self._log.read_bytes()[-_TAIL:].decode("utf-8", "replace")
        except OSError:
            text = ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it printed nothing"

    def kill(self) -> None:
        """SIGKILL to the workers that listen on its port; to the process itself where it alone does."""
        if self._process is None:
            return
        listening = [pid for pid in _listening(self.port) if pid != self._process.pid]
        for pid in listening or [self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not listening:
            self._process.wait()

    def stop(self) -> None:
        """End it and all of its children."""
        if self._process is None:
            return
        group = self._process.pid
        for way in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, way)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)


def _listening(port: int) -> list[int]:
    """Processes that hold a socket listening on this port; see proc_pid_net(5)."""
    sockets: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(table).read_text("ascii").splitlines()[1:]]
            sockets |= {
                f"socket:[{row[9]}]"
                for row in rows
                if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
            }
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if any(str(link.readlink()) in sockets for link in (entry / "fd").iterdir()):
                    found.append(int(entry.name))
    return found
