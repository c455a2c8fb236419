"""The services' log files: kept small, and quoted when a service doesn't start."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 20_000_000


class LogFile:
    """What one service writes, `NAME.log`; what it wrote under the supervisor before is `NAME.log.1`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.log"

    def rotate(self) -> None:
        """Begin anew, keeping one old file."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists():
            self.path.replace(self.path.with_suffix(".log.1"))

    def open(self) -> int:
        """A file descriptor for a child to append to; the caller closes it."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def trim(self) -> None:
        """Empty the file when it has grown too long: children append, so they go on at its start."""
        if self.path.exists() and self.path.stat().st_size > MAX_BYTES:
            os.truncate(self.path, 0)

    def mark(self) -> int:
        """The file's length now, for `tail(since=…)`."""
        return self.path.stat().st_size if self.path.exists() else 0

    def tail(self, *, lines: int = 12, since: int = 0) -> str:
        """The last lines, of what was written after `since`."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
