"""Install a wheel into an empty environment of the target's interpreter, and import what it brings.

`/qe/spec.json` has the commands of uv, the wheel's modules and the interpreter of the target's environment,
whose packages stand in for the wheel's dependencies; `/out/install.json` says by module what went wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_CLEAN = "/out/clean"
_IMPORT = """
import importlib, json, sys
sys.path.append(sys.argv[1])
try:
    module = importlib.import_module(sys.argv[2])
except BaseException as error:
    answer = f"{type(error).__name__}: {error}"
else:
    places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", []))]
    answer = "" if any(place.startswith(sys.argv[3]) for place in places) else "it isn't the wheel's"
with open(sys.argv[4], "w") as file:
    json.dump(answer, file)
"""


def main() -> int:
    """Install, then import each module in a process of its own."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    status = _run(spec["argv"])
    if status != 0:
        return status
    if not Path(_CLEAN, "bin", "python").exists():
        print("uv made no environment", flush=True)  # noqa: T201 - read as the reason
        return 70
    status = _run(spec["install"])
    if status not in {0, 1, 2}:
        return status
    modules: list[str] = spec["modules"]
    installed = status == 0
    answer = {module: _problem(spec["python"], module) for module in modules if installed}
    answer |= {} if installed else {"": "it can't be installed"}
    Path("/out/install.json").write_text(json.dumps(answer, indent=1), "utf-8")
    return 0


def _run(command: list[str]) -> int:
    status = subprocess.run(command, cwd="/out", check=False).returncode
    return status if status >= 0 else 128 - status


def _problem(target: str, module: str) -> str:
    """Why a module can't be imported; empty where it can."""
    folder = subprocess.run(
        [target, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    said = Path("/out/import.json")
    said.unlink(missing_ok=True)
    command = [f"{_CLEAN}/bin/python", "-I", "-c", _IMPORT, folder, module, _CLEAN, str(said)]
    done = subprocess.run(command, cwd="/out", stdin=subprocess.DEVNULL, check=False)
    if not said.exists():
        return f"the interpreter ended with exit code {done.returncode}"
    return str(json.loads(said.read_text("utf-8")))


if __name__ == "__main__":
    sys.exit(main())
