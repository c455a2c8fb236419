"""Run a project's suite, under coverage when asked, and leave the reports under /out.

The suite is a child process of its own: whatever it does to itself, coverage's reports are written by
this one afterwards, and the child's exit code is what this process ends with.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any


def main() -> int:
    """Run the suite as `/qe/spec.json` says; the exit code is pytest's, 128 + n for signal n."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    pytest_args: list[str] = spec["pytest"]
    source: list[str] = spec["source"]
    measured: list[str] = []
    if spec["coverage"]:
        omit = _omitted(spec["omit"])
        measured = ["--branch", "--source=" + ",".join(source)]
        measured += ["--omit=" + ",".join(omit)] if omit else []
        argv = [
            "-m",
            "coverage",
            "run",
            "--data-file=/out/.coverage",
            *measured,
            "-m",
            "pytest",
            *pytest_args,
        ]
    else:
        argv = ["-m", "pytest", *pytest_args]
    paths = [path for path in (os.environ.get("PYTHONPATH"), "/qe") if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    status = subprocess.call([sys.executable, *argv], env=environment)
    answer: dict[str, Any] = {
        "argv": [sys.executable, *argv],
        "coverage_options": measured,
        "versions": {name: metadata.version(name) for name in ("pytest", "coverage")},
        "reports": {},
    }
    if spec["coverage"]:
        answer["reports"] = _reports(contexts=spec["contexts"])
    Path("/out/suite.json").write_text(json.dumps(answer), "utf-8")
    return status if status >= 0 else 128 - status


def _omitted(ours: list[str]) -> list[str]:
    """What the project's own configuration leaves out, and ours: `--omit` would replace the former."""
    if not ours:
        return []
    import coverage  # noqa: PLC0415 - only where it is needed

    configured = coverage.Coverage(data_file=None).get_option("run:omit")
    return [*(configured if isinstance(configured, list) else []), *ours]


def _reports(*, contexts: bool) -> dict[str, str]:
    """Write JSON, Cobertura and LCOV; by report why it could not be written, empty where it was."""
    import coverage  # noqa: PLC0415 - only where it is needed

    measured = coverage.Coverage(data_file="/out/.coverage")
    problems: dict[str, str] = {}
    try:
        if not Path("/out/.coverage").exists():
            # `parallel = true` in the project's configuration writes one file a process
            measured.combine()
        measured.load()
    except coverage.CoverageException as error:
        return {"data": str(error)}
    # Else Cobertura's paths would be relative to the project's packages, and ambiguous where it has several.
    measured.set_option("run:source", None)
    writers: dict[str, Callable[..., float]] = {
        "json": functools.partial(measured.json_report, show_contexts=contexts),
        "xml": measured.xml_report,
        "lcov": measured.lcov_report,
    }
    for name, write in writers.items():
        try:
            write(outfile=f"/out/coverage.{name}")
            problems[name] = ""
        except coverage.CoverageException as error:
            problems[name] = str(error)
    return problems


if __name__ == "__main__":
    sys.exit(main())
