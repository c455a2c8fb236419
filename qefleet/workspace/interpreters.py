"""Which Python of this machine runs a target's code."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from qefleet.errors import TargetError

_PROBE = (
    "import json, os, platform, sys; "
    "print(json.dumps({'version': platform.python_version(), 'executable': os.path.realpath(sys.executable), "
    "'prefixes': sorted({sys.base_prefix, sys.base_exec_prefix})}))"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python installation, and the folders that a sandbox must show for it to work."""

    executable: str
    version: str
    prefixes: tuple[str, ...]


async def find_interpreter(uv: Path, requires_python: str | None) -> Interpreter:
    """The worker's own Python where it fits, else one that uv finds; nothing is downloaded.

    Raises:
        TargetError: This machine has none that fits.
    """
    folder = str(Path(sys.base_exec_prefix) / "bin")
    environment = {"PATH": os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])}
    environment |= {name: os.environ[name] for name in ("HOME", "XDG_DATA_HOME") if name in os.environ}
    command = [str(uv), "python", "find", "--no-project", "--no-config", "--no-python-downloads", "--system"]
    command += ["--python-preference", "system", "--color", "never", requires_python or ">=3.8"]
    found = await _output(command, environment)
    if found is None:
        raise TargetError(
            f"the target needs Python {requires_python}, which this machine doesn't have: install one "
            f"(`uv python install` does it without root); this worker runs {sys.version.split()[0]}"
        )
    probed = await _output([found.strip(), "-I", "-c", _PROBE], {})
    if probed is None:
        raise TargetError(f"the Python at {found.strip()} doesn't start")
    facts = json.loads(probed)
    return Interpreter(facts["executable"], facts["version"], tuple(facts["prefixes"]))


async def _output(command: list[str], environment: dict[str, str]) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd="/",  # where no .python-version of anybody's lies
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode == 0 else None
