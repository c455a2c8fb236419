"""Run one proposed test in a process of its own, watch what it does to the project's files.

The test runs in a forked child; this process, which the test can't end by `os._exit`, writes
`/out/candidate.json` and ends with the child's exit code.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

_OWN = {"__pycache__", ".pytest_cache", ".hypothesis", ".git", ".mypy_cache", ".ruff_cache"}
_MOST_FILES = 20_000


def main() -> int:
    """Run the test as `/qe/spec.json` says; the exit code is pytest's, 128 + n for signal n."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    sys.path[0] = str(Path.cwd())
    sys.path.append("/qe")
    before = _tree()
    child = os.fork()
    if child == 0:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (spec["cpu_s"], hard))
        os._exit(_run(spec))
    _, status = os.waitpid(child, 0)
    after = _tree()
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    Path("/out/candidate.json").write_text(json.dumps({"changed": changed[:5]}), "utf-8")
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _run(spec: dict[str, Any]) -> int:
    if not spec["coverage"]:
        return _pytest(spec["pytest"])
    import coverage  # noqa: PLC0415 - only in the one run that measures

    measuring = coverage.Coverage(
        data_file="/tmp/qe-coverage/data",  # noqa: S108 - the sandbox's own /tmp
        branch=True,
        source=spec["source"],
    )
    configured = measuring.get_option("run:omit")
    measuring.set_option("run:omit", [*(configured if isinstance(configured, list) else []), *spec["omit"]])
    Path("/tmp/qe-coverage").mkdir()  # noqa: S108
    measuring.start()
    status = _pytest(spec["pytest"])
    measuring.stop()
    measuring.save()
    if measuring.get_option("run:parallel"):
        measuring.combine()
    root = Path.cwd()
    reached = [name for name in measuring.get_data().measured_files() if measuring.get_data().lines(name)]
    wanted = [name for name in reached if os.path.relpath(name, root) in set(spec["files"])]
    if wanted:
        measuring.json_report(morfs=wanted, outfile="/out/coverage.json")
    else:
        Path("/out/coverage.json").write_text('{"files": {}}', "utf-8")
    return status


def _pytest(args: list[str]) -> int:
    import pytest  # noqa: PLC0415 - after coverage has started

    status = int(pytest.main(args))
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _tree() -> dict[str, tuple[int, int]]:
    """Size and time of change of each file below the working directory."""
    found: dict[str, tuple[int, int]] = {}
    for folder, names, files in os.walk("."):
        names[:] = [name for name in names if name not in _OWN]
        for name in files:
            if name.startswith(".coverage"):
                continue
            path = Path(folder, name)
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns)
            if len(found) >= _MOST_FILES:
                return found
    return found


if __name__ == "__main__":
    sys.exit(main())
