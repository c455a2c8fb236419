"""Runs the real command line, in processes of its own, with a clean environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = Path(sys.executable).parent
"""Where `qe`, `temporal-qe` and `temporal` are."""


@dataclass(frozen=True)
class Ended:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """A user's environment, without keys or settings of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "TMPDIR")
        or name.startswith(("UV_", "PIP_", "SSL_", "XDG_"))
        or "PROXY" in name.upper()
    }
    return kept | {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "QE_DATA_DIR": str(data_dir),
        "TEMPORAL_CONFIG_FILE": "/dev/null",
        "COLUMNS": "200",
        **more,
    }


def qe(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path,
    program: Sequence[str] = ("qe",),
    timeout_s: float = 120.0,
) -> Ended:
    """Run one command to its end."""
    done = subprocess.run(
        [str(PROGRAMS / program[0]), *program[1:], *arguments],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(*arguments: str, env: Mapping[str, str], cwd: Path) -> Generator[subprocess.Popen[str]]:
    """A command that goes on, until the block ends; then it is asked to stop."""
    with (cwd / "stderr.txt").open("w") as err:
        process = subprocess.Popen(
            [str(PROGRAMS / "qe"), *arguments],
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def read_json(process: subprocess.Popen[str]) -> Any:
    """The JSON object that a process prints, once it is whole; the process goes on."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.rstrip() == "}":
            return json.loads(text)
    raise AssertionError(f"it ended without an answer: {text}")


def until_line(process: subprocess.Popen[str], part: str, *, within_s: float = 120.0) -> None:
    """Return when the process has printed a line that contains `part`."""
    assert process.stdout is not None
    deadline = time.monotonic() + within_s
    for line in process.stdout:
        if part in line:
            return
        assert time.monotonic() < deadline, f"no line with {part!r} in time"
    raise AssertionError(f"it ended without a line with {part!r}")


def make_project(folder: Path, *, green: bool = True) -> Path:
    """A small project with one test, which passes or doesn't."""
    (folder / "tests").mkdir(parents=True)
    (folder / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (folder / "tests" / "test_sums.py").write_text(
        f"from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == {3 if green else 4}\n"
    )
    return folder
