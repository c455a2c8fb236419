"""What a supervised service is: how it is started, when it is ready, how it is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qefleet.errors import QeError

Kind = Literal["notice", "starting", "ready", "died", "restarted", "stopping", "stopped"]
Ready = Callable[[int], Awaitable[bool]]
"""Tells of the process with this id whether it serves; asked again until it does."""


def terminate(pid: int) -> None:
    """Send SIGTERM."""
    os.kill(pid, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One child process, as declared."""

    name: str
    """For people and for the log's file name."""
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    """The child's whole environment: nothing is inherited."""
    cwd: Path
    ready: Ready
    address: str = ""
    """Where it is reached, for people."""
    stage: int = 0
    """Services of a stage start together, after those of lower stages; they stop in reverse."""
    prepare: Callable[[], Awaitable[None]] | None = None
    """Run before each start."""
    after_first_start: Callable[[], Awaitable[None]] | None = None
    """Run once, when it is ready and before later stages start."""
    start_timeout_s: float = 60.0
    request_stop: Callable[[int], None] = terminate
    """Asks the process with this id to end."""
    stop_grace_s: float = 10.0
    """After this it is killed."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that people who watch the services want to read."""

    kind: Kind
    service: str
    text: str = ""


Announce = Callable[[Event], None]


class ServiceFailed(QeError):
    """A service doesn't start; the message ends with the last lines that it wrote."""

    def __init__(self, service: str, reason: str, *, log: Path, tail: str) -> None:
        said = f"; its last lines:\n{_indent(tail)}" if tail.strip() else ""
        super().__init__(f"{service} {reason} (log: {log}){said}")
        self.service = service


def _indent(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.strip().splitlines())
