"""Start a system with the target's interpreter, put load on it with locust, and stop it.

locust is a child with the fleet's interpreter, and works in this file's folder: it would take its
configuration from a project's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))
from qe_system import Service  # noqa: E402 - isolated interpreters don't look beside a program


def main() -> int:
    """Do as `/qe/spec.json` says; how it went in `/out/load.json`."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    system = Service("system", spec["command"], port=spec["port"], env=_profiled() if spec["profile"] else {})
    started = time.monotonic()
    why = system.start() or system.wait(spec["ready_s"])
    exit_code = None
    if not why:
        ended = subprocess.run([*spec["argv"]], cwd=_HERE, check=False).returncode
        exit_code = ended if ended >= 0 else 128 - ended
    took_s = time.monotonic() - started
    if not why and not system.alive():
        print(f"the system ended under load: {system.last_line()}", flush=True)  # noqa: T201 - the run's log
    system.stop()
    profile = _profile()
    if profile:
        Path("/out/profile.json").write_text(json.dumps(profile), "utf-8")
    answer = {"why": why, "exit_code": exit_code, "took_s": took_s}
    Path("/out/load.json").write_text(json.dumps(answer), "utf-8")
    return 0


def _profiled() -> dict[str, str]:
    paths = [str(_HERE / "profile"), os.environ.get("PYTHONPATH", "")]
    return {"QE_PROFILE": str(_HERE), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _profile() -> dict[str, int]:
    """Samples by function, of all processes that `qe_sampler` was in."""
    found: Counter[str] = Counter()
    for file in sorted(_HERE.glob("profile-*.json")):
        try:
            found.update(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError):
            continue
    return dict(found)


if __name__ == "__main__":
    sys.exit(main())
