"""Run tests against mutated versions of a module, one forked child a mutant.

pytest is imported once, in the parent, and the project never there. A child puts the mutated source
under its path in the import machinery (no file changes, so no stale byte code), then runs the tests.
The first run is the control: unmutated source, through the same door.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import math
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

_LOADED = 64  # added to the control's exit code when the mutated file really was imported through us


def main() -> int:
    """Run control and mutants as `/qe/spec.json` says; results in `/out/mutants.json`."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    sys.path[0] = str(Path.cwd())
    sys.path.append("/qe")
    sys.dont_write_bytecode = True
    if "no:hypothesispytest" not in spec["pytest"] and importlib.util.find_spec("hypothesis"):
        # its plug-in imports it in any case: a second of start-up, here once instead of once a mutant
        importlib.import_module("hypothesis.internal.observability")
    deadline = time.monotonic() + spec["total_s"]
    started = time.monotonic()
    control = _judge(spec, None, cpu_s=spec["control_s"], wall_s=spec["control_s"])
    took = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer: dict[str, Any] = {"control": control, "results": []}
    if control == "survived":
        # a mutant that loops is told by its processor time, which doesn't depend on how busy the machine is
        cpu_s = max(2.0, 5 * (used.ru_utime + used.ru_stime))
        wall_s = max(10.0, 10 * took)
        for mutant in spec["mutants"]:
            left = deadline - time.monotonic()
            if left < took:
                answer["results"].append("unreached")
            else:
                answer["results"].append(_judge(spec, mutant, cpu_s=cpu_s, wall_s=min(wall_s, left)))
    Path("/out/mutants.json").write_text(json.dumps(answer), "utf-8")
    return 0


def _judge(spec: dict[str, Any], mutant: dict[str, Any] | None, *, cpu_s: float, wall_s: float) -> str:
    child = os.fork()
    if child == 0:
        os.setsid()
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu_s), hard))
        os._exit(_run(spec["pytest"], mutant or spec["control"], control=mutant is None))
    status = _wait(child, wall_s)
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "timeout"
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
    if mutant is None:
        # without the mark the module came from elsewhere, and every mutant would "survive"
        return {_LOADED: "survived", 0: "not loaded"}.get(code, "killed")
    # 1: a test failed. 2 to 5: pytest did not get as far as a test, which no assertion achieved.
    return {0: "survived", 1: "killed", -1: "killed"}.get(code, "invalid")


def _wait(child: int, limit_s: float) -> int | None:
    deadline = time.monotonic() + limit_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.005)


def _run(args: list[str], source: dict[str, Any], *, control: bool) -> int:
    path = os.path.realpath(source["file"])
    text: str = source["text"]
    loaded: list[str] = []
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> Any:
        if os.path.realpath(self.get_filename(fullname)) != path:
            return original(self, fullname)
        loaded.append(fullname)
        return compile(text, path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nothing, descriptor)
    status = int(pytest.main(args))
    return status + _LOADED if control and status == 0 and loaded else status


if __name__ == "__main__":
    sys.exit(main())
