"""A suite's benchmarks by pytest-benchmark, and which of them have become slower since the last run."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from qefleet.contracts.performance import Benchmark
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import Tool, ToolReport, read_report, without_value
from qefleet.tools.project import read_layout
from qefleet.tools.running.suite import pytest_options
from qefleet.workspace.sandbox import Limits

REPORT = "benchmark.json"

_TOOL = Tool(name="pytest-benchmark", done=frozenset({0, 1}))
_FIXTURES = frozenset({"benchmark", "benchmark_weave"})
_MOST_BYTES = 1 << 20
_UNKNOWN_OPTION = "unrecognized arguments: --benchmark-only"


@dataclass(frozen=True)
class Timing:
    """One benchmark's rounds, in seconds."""

    median: float
    q1: float
    q3: float
    iqr: float


@dataclass(frozen=True)
class Timings:
    """What a run of benchmarks gave."""

    machine: str
    """Its processor: figures of another say nothing about the code."""
    version: str
    benchmarks: Mapping[str, Timing] = field(default_factory=dict[str, Timing])
    """By node id."""


def benchmark_files(project: Path) -> list[str]:
    """Test files in which a test asks for pytest-benchmark's fixture, and no fixture of that name is theirs.

    Args:
        project: The project's folder; its files are parsed, not executed.
    """
    layout = read_layout(project)
    found: list[str] = []
    for file in sorted(project.rglob("*.py")):
        path = file.relative_to(project).as_posix()
        usual = file.is_file() and not file.is_symlink() and file.stat().st_size <= _MOST_BYTES
        if not usual or not (layout.is_test_file(path) or file.name == "conftest.py"):
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, RecursionError):
            continue
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        if any(function.name in _FIXTURES for function in functions):
            return []
        if any(argument.arg in _FIXTURES for function in functions for argument in function.args.args):
            found.append(path)
    return found


async def run_benchmarks(ground: Ground, only: Sequence[str], *, timeout_s: float) -> ToolReport[Timings]:
    """Run benchmarks and nothing else of the suite.

    Args:
        ground: The project's workspace; pytest-benchmark is in its environment, or there is a reason.
        only: Files or node ids.
        timeout_s: Wall time after which the run is stopped.
    """
    options = pytest_options(read_layout(ground.project))
    arguments = [*options, "--benchmark-only", f"--benchmark-json=/out/{REPORT}", *only]
    spec = {
        "pytest": arguments,
        "source": [],
        "omit": [],
        "coverage": False,
        "contexts": False,
    }
    outcome = await run_program(
        ground,
        "qe_suite",
        spec,
        collect=["suite.json", REPORT],
        limits=replace(Limits(), wall_s=timeout_s, cpu_s=timeout_s),
    )
    content = outcome.outputs.get(REPORT)
    report = read_report(
        _TOOL,
        "unknown",
        argv=["pytest", *arguments],
        finished=outcome.finished,
        content=content,
        read=read_timings,
        name=REPORT,
    )
    if report.value is None and _UNKNOWN_OPTION in outcome.finished.text:
        reason = "the suite has benchmarks, and pytest-benchmark isn't among what the project installs for it"
        return without_value(report, reason)
    if report.value and report.run:
        report = replace(report, run=report.run.model_copy(update={"version": report.value.version}))
    return report


def read_timings(content: bytes) -> Timings:
    """Read pytest-benchmark's report.

    Raises:
        ValueError: It is none, or has no benchmark.
    """
    found = cast("dict[str, Any]", json.loads(content))
    cpu: dict[str, Any] = found["machine_info"].get("cpu", {})
    benchmarks = {
        str(entry["fullname"]): Timing(
            *(float(entry["stats"][name]) for name in ("median", "q1", "q3", "iqr"))
        )
        for entry in found["benchmarks"]
    }
    if not benchmarks:
        raise ValueError("no benchmark ran")
    machine = f"{cpu.get('brand_raw', 'unknown')}, {cpu.get('count', '?')} cores"
    return Timings(machine=machine, version=str(found["version"]), benchmarks=benchmarks)


def last_timings(content: bytes | None) -> Timings | None:
    """The timings of an earlier run's report; None where it can't be read."""
    try:
        return read_timings(content) if content else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def slower(now: Timing, before: Timing, *, percent: float) -> bool:
    """Whether a median has grown by more than `percent`, and the middle halves of both runs are apart."""
    return now.median > before.median * (1 + percent / 100) and now.q1 > before.q3


def compare(now: Timings, before: Timings | None, *, percent: float) -> list[Benchmark]:
    """Each benchmark with what it was before, sorted by id; figures of another machine don't count.

    Args:
        now: This run.
        before: The last one.
        percent: By how much a median may grow.
    """
    earlier = before.benchmarks if before and before.machine == now.machine else dict[str, Timing]()
    return [
        Benchmark(
            id=name,
            median_ms=1000 * timing.median,
            iqr_ms=1000 * timing.iqr,
            before_ms=1000 * earlier[name].median if name in earlier else None,
            regressed=name in earlier and slower(timing, earlier[name], percent=percent),
        )
        for name, timing in sorted(now.benchmarks.items())
    ]
