"""Types a page's commands into a real shell, and compares what they say with what the page says."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_pages import TARGET, Command

_WITHIN_S = 120.0


@dataclass(frozen=True)
class Shell:
    """A reader's terminal: one folder, one environment.

    Args:
        env: With the programs on its PATH, and where Temporal is.
        cwd: The folder.
        target: Stands for the target of the page.
    """

    env: Mapping[str, str]
    cwd: Path
    target: str

    @property
    def replaced(self) -> tuple[str, str]:
        """The target of the pages, and what stands for it."""
        return TARGET, self.target

    def play(self, commands: Sequence[Command]) -> None:
        """Type commands, in order; one that only asks is repeated until it says what the page says."""
        for command in commands:
            deadline = time.monotonic() + _WITHIN_S
            only_asks = " query " in command.typed or " list " in command.typed
            while problem := self._problem(command):
                if not only_asks or time.monotonic() > deadline:
                    pytest.fail(f"$ {command.typed}\n{problem}")
                time.sleep(0.2)

    def type(self, command: Command) -> tuple[int, str]:
        """Type one; its exit code and all that it printed."""
        done = subprocess.run(
            ["bash", "-c", command.typed.replace(*self.replaced)],
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )
        return done.returncode, done.stdout

    def _problem(self, command: Command) -> str:
        code, printed = self.type(command)
        if (code != 0) is not command.refused:
            return f"exit code {code}: {printed}"
        missing = [line for line in command.said if not _is_in(line, printed)]
        return f"no line {missing[0]!r} in: {printed}" if missing else ""


def _is_in(line: str, printed: str) -> bool:
    pattern = r"\s+".join(".*".join(re.escape(part) for part in word.split("…")) for word in line.split())
    return any(re.fullmatch(rf"\s*{pattern}\s*", got) for got in printed.splitlines())
