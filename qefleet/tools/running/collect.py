"""The tests that a project has, without running any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from qefleet.contracts.measured import ToolRun
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground, read_json, run_program
from qefleet.tools.program import ToolReport
from qefleet.tools.project import read_layout
from qefleet.tools.running.suite import pytest_options, speaks_of_hypothesis
from qefleet.workspace.sandbox import Limits

_EXIT_NO_TESTS = 5


async def collect_tests(ground: Ground, *, timeout_s: float = 300.0) -> ToolReport[list[str]]:
    """Node ids of all tests, in the project's own order.

    Args:
        ground: The project's workspace.
        timeout_s: Wall time after which it is stopped.
    """
    layout = read_layout(ground.project)
    without = None if speaks_of_hypothesis(ground.project) else ""
    spec = {
        "pytest": [*pytest_options(layout, test=without), "--collect-only", "-q"],
        "source": [],
        "omit": [],
        "coverage": False,
        "contexts": False,
    }
    outcome = await run_program(
        ground,
        "qe_suite",
        spec,
        collect=["suite.json", "collected.json"],
        env={"QE_COLLECTED": "/out/collected.json"},
        limits=replace(Limits(), wall_s=timeout_s, cpu_s=timeout_s),
    )
    finished, content = outcome.finished, outcome.outputs.get("collected.json")
    answer: dict[str, Any] = read_json(outcome.outputs.get("suite.json")) or {}
    found: Any = read_json(content)
    tests, reason = cast("list[str] | None", found if isinstance(found, list) else None), ""
    if finished.exit_code not in {0, _EXIT_NO_TESTS} or tests is None:
        tests = None
        last = (finished.text.strip().splitlines() or ["it printed nothing"])[-1][:300]
        reason = f"pytest could not collect the tests (exit code {finished.exit_code}): {last}"
    kept = reference(content, name="collected.json", media_type="application/json") if content else None
    log = reference(finished.output, name="collect.log", media_type="text/plain") if reason else None
    run = ToolRun(
        tool="pytest",
        version=str(answer.get("versions", {}).get("pytest", "unknown")),
        argv=answer.get("argv", list(finished.argv)),
        exit_code=finished.exit_code,
        duration_s=finished.duration_s,
        artifact=kept,
        log=log,
        problem=reason,
    )
    artifacts = [(kept, content)] if kept and content else []
    artifacts += [(log, finished.output)] if log else []
    return ToolReport(run=run, value=tests, reason=reason, artifacts=tuple(artifacts))
