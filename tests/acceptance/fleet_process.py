"""`qe up` as a user runs it: a process that can be killed with all its children, and started again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from command_line import read_json, running


@dataclass
class FleetProcess:
    """Everything embedded, for the length of a `with` block.

    Args:
        env: A user's environment, with `QE_DATA_DIR`.
        cwd: Where it is started.
    """

    env: Mapping[str, str]
    cwd: Path
    _processes: ExitStack = field(default_factory=ExitStack)
    _up: dict[str, Any] = field(default_factory=dict[str, Any])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    @property
    def address(self) -> str:
        """Of Temporal; another one after each start."""
        return self._up["addresses"]["temporal"]

    @property
    def database(self) -> str:
        """URL of Postgres; another one after each start."""
        return self._up["addresses"]["database"]

    def start(self) -> None:
        """Start it, and wait until all of it answers."""
        process = self._processes.enter_context(running("up", "--json", env=self.env, cwd=self.cwd))
        self._up = read_json(process)

    def kill_everything(self) -> None:
        """SIGKILL for each of its processes, and wait until they are gone."""
        supervisor = psutil.Process(self._up["pid"])
        family = [supervisor, *supervisor.children(recursive=True)]
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue  # it died with its parent
        self._processes.close()
        deadline = time.monotonic() + 10
        while [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
            assert time.monotonic() < deadline, "something outlived SIGKILL"
            time.sleep(0.05)
