"""Filters two and three: fresh sandboxed processes, and the reports that they leave."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qefleet.contracts.coverage import CoverageReport, CoverageTotals
from qefleet.contracts.generation import Filter
from qefleet.tools.ground import Ground, Outcome, read_json, run_program
from qefleet.tools.project import Layout
from qefleet.tools.running.coverage import parse_coverage
from qefleet.tools.running.junit import JUnit, parse_junit
from qefleet.tools.running.suite import pytest_options
from qefleet.workspace.sandbox import Limits

_EMPTY = CoverageReport(totals=CoverageTotals(), files=[])
_EXIT_NO_TESTS = 5
_EXIT_CPU_LIMIT = 128 + signal.SIGXCPU


@dataclass(frozen=True)
class Trial:
    """What the runs of one test gave."""

    runs: int
    """Runs that were made."""
    coverage: CoverageReport = _EMPTY
    """What the first run reached, of the files in question."""
    failed_filter: Filter | None = None
    reason: str = ""
    feedback: str = ""


async def try_test(
    ground: Ground,
    layout: Layout,
    path: str,
    files: Mapping[str, bytes],
    open_files: Sequence[str],
    *,
    runs: int,
    cpu_s: int,
    wall_s: float,
) -> Trial:
    """Run a test file in fresh processes, the first of them under coverage; the first failure ends it.

    Each process has another hash seed, so that a test that depends on the order of a set is found out.

    Args:
        ground: The project's workspace.
        layout: The project's layout.
        path: The test's file.
        files: That file's content, by path.
        open_files: Source files in which something is still uncovered.
        runs: How many processes.
        cpu_s: Processor time that each may use: a loop ends by it, however busy the machine is.
        wall_s: Time limit of each, for those that wait.
    """
    first = await _run(ground, layout, path, files, 0, cpu_s=cpu_s, wall_s=wall_s, measure=open_files)
    failed = _problem(first, cpu_s=cpu_s, wall_s=wall_s)
    if failed is not None:
        return Trial(1, _EMPTY, *failed)
    report = parse_coverage(read_json(first.outputs.get("coverage.json")))
    if report is None:
        return Trial(1, _EMPTY, Filter.REPORT, "its run left no coverage report")
    # two at a time: the machine is shared, and each run is short
    done = 1
    while done < runs:
        batch = range(done, min(runs, done + 2))
        outcomes = await asyncio.gather(
            *(
                _run(ground, layout, path, files, seed, cpu_s=cpu_s, wall_s=wall_s, measure=())
                for seed in batch
            )
        )
        done += len(outcomes)
        for outcome in outcomes:
            failed = _problem(outcome, cpu_s=cpu_s, wall_s=wall_s)
            if failed is not None:
                by, reason, feedback = failed
                return Trial(done, _EMPTY, by, f"passed at first, then: {reason}", feedback)
    return Trial(done, report)


async def _run(
    ground: Ground,
    layout: Layout,
    path: str,
    files: Mapping[str, bytes],
    seed: int,
    *,
    cpu_s: int,
    wall_s: float,
    measure: Sequence[str],
) -> Outcome:
    options = [
        *pytest_options(layout, test=files[path].decode()),
        "-q",
        "--tb=short",
        "--no-header",
        "--junitxml=/out/junit.xml",
        path,
    ]
    spec = {
        "pytest": options,
        "coverage": bool(measure),
        "source": layout.sources,
        "omit": [f"{folder}/*" for folder in layout.tests_inside],
        "files": list(measure),
        "cpu_s": cpu_s,
    }
    return await run_program(
        ground,
        "qe_candidate",
        spec,
        files=files,
        collect=["candidate.json", "junit.xml", "coverage.json"],
        env={"PYTHONHASHSEED": str(seed)},
        limits=replace(Limits(), wall_s=wall_s, cpu_s=wall_s * 4),
    )


def _problem(outcome: Outcome, *, cpu_s: int, wall_s: float) -> tuple[Filter, str, str] | None:
    """Why a run isn't a pass: filter, reason, feedback."""
    finished = outcome.finished
    junit = parse_junit(outcome.outputs.get("junit.xml"))
    if finished.exit_code is None:
        limit = (
            f"within {wall_s:g} seconds" if finished.timed_out else f"below the limit on {finished.stopped}"
        )
        reason = f"it did not end {limit}"
        return Filter.RUNS, reason, reason
    if finished.exit_code == _EXIT_CPU_LIMIT:
        reason = f"it did not end within {cpu_s} seconds of processor time"
        return Filter.RUNS, reason, reason
    if finished.exit_code not in {0, _EXIT_NO_TESTS}:
        failing = junit.failing[0].message if junit and junit.failing else finished.text
        first = next((line.strip() for line in failing.splitlines() if line.strip()), "no output")
        return Filter.RUNS, f"it fails: {first[:300]}", _shortened(failing)
    changed = _changed_files(outcome)
    if changed:
        reason = f"it changes the project's files: {', '.join(changed)}"
        return Filter.RUNS, reason, reason + ". Use tmp_path."
    reason = _unreported(junit, watched=changed is not None)
    return (Filter.REPORT, reason, reason) if reason else None


def _changed_files(outcome: Outcome) -> list[str] | None:
    """What the test changed below the project; None when the watching process came to no end."""
    watched: Any = read_json(outcome.outputs.get("candidate.json"))
    return [str(path) for path in watched["changed"]] if watched else None


def _unreported(junit: JUnit | None, *, watched: bool) -> str | None:
    """Why an exit code of success proves nothing."""
    if junit is None or not watched:
        return "it exited with success but without a report: the process was ended from within"
    if junit.unfinished or not junit.counts.total:
        return "it exited with success, and no test came to its end"
    if junit.counts.passed != junit.counts.total:
        return f"{junit.counts.skipped} of {junit.counts.total} were skipped or expected to fail"
    return None


def _shortened(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-18:])
