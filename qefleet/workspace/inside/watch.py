"""The child, and the watch over it and all that descends from it."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time

from .refused import Refused
from .relay import start_relay
from .system_calls import filter_system_calls

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` would cost 3 ms in each run
    from typing import Any, NoReturn

_TICK_S = 0.1
_CHUNK = 1 << 16


class Watch:
    """Runs the command and ends it, with all its descendants, at the first limit that it meets."""

    def __init__(self, order: dict[str, Any], channel: socket.socket) -> None:
        self._order = order
        self._limits: dict[str, Any] = order["limits"]
        self._channel = channel
        self._head = bytearray()
        self._tail = bytearray()
        self._printed = 0

    def run(self) -> dict[str, Any]:
        """Outcome of the command: how it ended, why it was stopped if it was, how long it took."""
        relay = self._order["relay"]
        if relay is not None:
            start_relay(relay["port"], relay["socket"])
        reading, writing = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._execute(writing)
        os.close(writing)
        stopped = self._watch(child, reading, started)
        status = _kill_all(child)
        self._drain(reading)
        kept, cap = bytes(self._head + self._tail), self._limits["output_bytes"]
        if truncated := self._printed > cap:
            gap = f"\n[... {self._printed - cap} bytes left out ...]\n".encode()
            kept = bytes(self._head) + gap + bytes(self._tail)
        return {
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status),
            "stopped": stopped,
            "duration_s": time.monotonic() - started,
            "truncated": truncated,
            "printed": kept,
        }

    def _execute(self, writing: int) -> NoReturn:
        order, limits = self._order, self._limits
        try:
            os.setsid()
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.chdir(order["cwd"])
            for kind, value in (
                (resource.RLIMIT_CPU, limits["cpu_s"]),
                (resource.RLIMIT_DATA, limits["memory_bytes"]),
                # Runtimes reserve far more address space than they use; RLIMIT_DATA is the real limit.
                (resource.RLIMIT_AS, limits["address_bytes"] or 4 * limits["memory_bytes"]),
                (resource.RLIMIT_FSIZE, limits["file_bytes"]),
                (resource.RLIMIT_NPROC, limits["processes"]),
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_NOFILE, 1024),
                (resource.RLIMIT_MSGQUEUE, 0),
            ):
                _lower_limit(kind, value)
            filter_system_calls()
            os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606  a shell is what we avoid
        except (OSError, ValueError, Refused) as error:
            os.write(2, f"qe: cannot start {order['argv'][0]!r}: {error}\n".encode(errors="replace"))
            os._exit(127)

    def _watch(self, child: int, reading: int, started: float) -> str | None:
        """Wait for the child's end; the name of the limit that it broke, or None."""
        limits = self._limits
        ended = os.pidfd_open(child)
        poll = select.poll()
        for descriptor in (reading, ended, self._channel.fileno()):
            poll.register(descriptor, select.POLLIN)
        os.set_blocking(reading, False)
        next_look = started + _TICK_S
        while True:
            events = {descriptor for descriptor, _ in poll.poll(_TICK_S * 1000)}
            if self._channel.fileno() in events:
                os._exit(2)  # the worker never writes here: it is gone or has cancelled
            if reading in events and not self._read(reading):
                poll.unregister(reading)
            if ended in events:
                os.close(ended)
                return None
            now = time.monotonic()
            if now - started > limits["wall_s"]:
                return "time"
            if self._printed > 100 * limits["output_bytes"]:
                return "output"
            if now >= next_look:
                next_look = now + _TICK_S
                if _memory_in_use(limits["memory_bytes"]) > limits["memory_bytes"]:
                    return "memory"

    def _read(self, reading: int) -> bool:
        """Take what was printed; False at its end."""
        try:
            part = os.read(reading, _CHUNK)
        except BlockingIOError:
            return True
        half = self._limits["output_bytes"] // 2
        self._printed += len(part)
        room = half - len(self._head)
        self._head += part[:room] if room > 0 else b""
        self._tail += part[max(room, 0) :]
        if len(self._tail) > half + 8 * _CHUNK:
            del self._tail[:-half]
        return bool(part)

    def _drain(self, reading: int) -> None:
        while self._read(reading):
            pass
        os.close(reading)
        excess = len(self._tail) - self._limits["output_bytes"] // 2
        if excess > 0:
            del self._tail[:excess]


def _lower_limit(kind: int, value: float) -> None:
    hard = resource.getrlimit(kind)[1]
    wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
    resource.setrlimit(kind, (wanted, wanted))


def _kill_all(child: int) -> int:
    """Kill everybody here but ourselves, wait until they are gone, return the child's wait status.

    Orphans come to process 1, so "no child left" means that nobody is left.
    """
    status = 0
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            pid, found = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == child:
            status = found


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _memory_in_use(limit: int) -> int:
    """Bytes of anonymous and shared memory of every process here but ourselves.

    RLIMIT_DATA holds for one process each; this is the limit for all of them together. The quick sum counts
    a page once for each process that shares it, as forks do, so only a sum beyond the limit is looked at
    closely. A process that forbids the closer look is counted by the quick one.
    """
    others = [pid for pid in _processes() if pid != "1"]
    quick = {pid: _field_sum(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:")) or 0 for pid in others}
    if sum(quick.values()) <= limit:
        return sum(quick.values())
    shares = {pid: _field_sum(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:")) for pid in others}
    return sum(quick[pid] if share is None else share for pid, share in shares.items())


def _field_sum(path: str, names: tuple[bytes, ...]) -> int | None:
    """Sum of fields given in kB, in bytes; None when the file can't be read."""
    try:
        with open(path, "rb") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(names))
    except (OSError, ValueError, IndexError):
        return None
