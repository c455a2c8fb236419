"""Run a project's own test suite in its workspace, and tell honestly how that ended."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qefleet.contracts.coverage import CoverageReport
from qefleet.contracts.execution import ExecutionDetails, SuiteCounts, SuiteOutcome
from qefleet.contracts.measured import ArtifactRef, Measured, Metric, ToolRun, Unmeasured
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground, Outcome, read_json, run_program
from qefleet.tools.project import Layout, read_layout
from qefleet.tools.running.coverage import parse_coverage
from qefleet.tools.running.junit import JUnit, parse_junit
from qefleet.workspace.archive import safe_path
from qefleet.workspace.sandbox import Limits

_LISTED_FAILURES = 50
_OUTPUTS = {
    "junit.xml": "application/xml",
    "coverage.json": "application/json",
    "coverage.xml": "application/xml",
    "coverage.lcov": "text/plain",
}


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite."""

    details: ExecutionDetails
    tools: tuple[ToolRun, ...]
    """pytest first, then coverage where it was asked for."""
    coverage: CoverageReport | None
    """None when it wasn't asked for, or wasn't measured: `details.outcome` and the notes say why."""
    failing_ids: frozenset[str]
    """All node ids that failed, also those beyond what `details` lists."""
    test_files: tuple[str, ...]
    """Those whose tests ran, relative to the project, sorted."""
    artifacts: tuple[tuple[ArtifactRef, bytes], ...]
    """Reports to keep under the hashes that `tools` names."""

    @property
    def green(self) -> bool:
        """Every test that ran passed, and some ran."""
        return self.details.outcome is SuiteOutcome.PASSED

    def artifact(self, name: str) -> bytes | None:
        """A report as it was written, such as `coverage.json`; None where there is none."""
        return next((content for ref, content in self.artifacts if ref.name == name), None)


async def run_suite(
    ground: Ground,
    *,
    coverage: bool,
    order_seed: int | None = None,
    only: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
    contexts: bool = False,
    hash_seed: int = 0,
    order: Sequence[str] = (),
    lean: bool = False,
    timeout_s: float = 600.0,
) -> SuiteRun:
    """Run the suite once, as the project configures it, in one process and without retries.

    Args:
        ground: The project's workspace.
        coverage: Measure lines and branches of the project's own packages.
        order_seed: Run all tests in the random order of this seed.
        only: Node ids or files; everything that the project collects without them.
        files: Test files to lay over the project, by relative path.
        contexts: Record which test reached which line (slower, a much larger `coverage.json`).
        hash_seed: Python's, on which the order of sets depends.
        order: Node ids: of what is collected, run these alone, one after the other.
        lean: Leave out Hypothesis's plug-in where no file of the project speaks of Hypothesis: for many runs
            of few tests, whose start-up it doubles.
        timeout_s: Wall time after which the run is stopped.
    """
    layout = read_layout(ground.project)
    without = "" if lean and not speaks_of_hypothesis(ground.project) else None
    pytest_args = [*pytest_options(layout, test=without), "--junitxml=/out/junit.xml", *only]
    environment = {"PYTHONHASHSEED": str(hash_seed)}
    laid = dict(files or {})
    if order:
        laid["/qe/order.json"] = json.dumps(list(order)).encode()
        environment["QE_ORDER"] = "/qe/order.json"
    if order_seed is not None:
        environment["QE_ORDER_SEED"] = str(order_seed)
    if contexts:
        environment["QE_CONTEXTS"] = "1"
    spec = {
        "pytest": pytest_args,
        "source": layout.sources,
        "omit": [f"{folder}/*" for folder in layout.tests_inside],
        "coverage": coverage,
        "contexts": contexts,
    }
    outcome = await run_program(
        ground,
        "qe_suite",
        spec,
        files=laid,
        collect=["suite.json", *_OUTPUTS],
        env=environment,
        limits=replace(Limits(), wall_s=timeout_s, cpu_s=timeout_s, file_bytes=512 << 20),
    )
    return _read(outcome, layout, order_seed=order_seed, coverage=coverage, only=only)


def pytest_options(layout: Layout, *, test: str | None = None) -> list[str]:
    """Options for any run of pytest: our plug-in, the project's configuration, no retries.

    Args:
        layout: The project's layout.
        test: Source of the only test file that will run. Hypothesis's plug-in costs a second of start-up,
            and is left out where neither this nor the project's configuration speaks of Hypothesis.
    """
    options = ["-p", "qe_pytest_plugin", "-p", "no:cacheprovider", "-p", "no:randomly"]
    if test is not None and "hypothesis" not in test and not layout.configures_hypothesis:
        options += ["-p", "no:hypothesispytest"]
    if layout.addopts is not None:
        options.append(f"--override-ini=addopts={shlex.join(layout.addopts)}")
    return options


def speaks_of_hypothesis(project: Path) -> bool:
    """Whether any Python file of a project names Hypothesis."""
    return any(b"hypothesis" in path.read_bytes() for path in project.rglob("*.py") if path.is_file())


def files_of(tests: Iterable[str], project: Path) -> list[str]:
    """The files of these tests that a project has; a test that can't be collected is named by its module.

    Args:
        tests: Node ids, as `SuiteRun.failing_ids` has them.
        project: The project's folder on this machine.
    """
    found: set[str] = set()
    for test in tests:
        file, parted, _ = test.partition("::")
        path = file if parted or file.endswith(".py") else file.replace(".", "/") + ".py"
        if safe_path(path) and (project / path).is_file():
            found.add(path)
    return sorted(found)


def suite_metrics(run: SuiteRun, *, tool: int = 0) -> dict[str, Metric]:
    """The `tests.*` metrics of a run; not measured where it left no usable report.

    Args:
        run: The run.
        tool: Index of its pytest in the measurement's tools.
    """
    names = ("total", "passed", "failed", "errors", "skipped")
    if run.details.outcome in {SuiteOutcome.UNREPORTED, SuiteOutcome.TIMED_OUT}:
        reason = "; ".join(run.details.notes) or run.details.outcome.value
        return {f"tests.{name}": Unmeasured(reason=reason) for name in names}
    return {
        f"tests.{name}": Measured(value=getattr(run.details.counts, name), unit="tests", tool=tool)
        for name in names
    }


def _read(
    outcome: Outcome, layout: Layout, *, order_seed: int | None, coverage: bool, only: Sequence[str]
) -> SuiteRun:
    finished = outcome.finished
    answer: dict[str, Any] = read_json(outcome.outputs.get("suite.json")) or {}
    junit = parse_junit(outcome.outputs.get("junit.xml"))
    ended = _ended(finished.exit_code, junit, timed_out=finished.timed_out)
    notes = _notes(ended, finished.text)
    report = parse_coverage(read_json(outcome.outputs.get("coverage.json"))) if coverage else None
    if coverage and not layout.sources:
        report = None
        notes.append(
            "No package or module of the project was found, so there is nothing to measure coverage on."
        )
    elif coverage and report is None:
        problems: dict[str, str] = answer.get("reports", {})
        notes.append(
            f"coverage.py left no report: {'; '.join(filter(None, problems.values())) or 'no data'}."
        )
    artifacts = {
        name: (reference(content, name=name, media_type=_OUTPUTS.get(name, "text/plain")), content)
        for name, content in {**outcome.outputs, "pytest.log": finished.output}.items()
        if name in {*_OUTPUTS, "pytest.log"}
    }
    log = artifacts["pytest.log"][0] if ended is not SuiteOutcome.PASSED else None
    versions: dict[str, str] = answer.get("versions", {})
    tools = [
        ToolRun(
            tool="pytest",
            version=versions.get("pytest", "unknown"),
            argv=answer.get("argv", list(finished.argv)),
            exit_code=finished.exit_code,
            duration_s=finished.duration_s,
            artifact=artifacts["junit.xml"][0] if "junit.xml" in artifacts else None,
            log=log,
        )
    ]
    if coverage:
        tools.append(
            ToolRun(
                tool="coverage",
                version=versions.get("coverage", "unknown"),
                argv=["coverage", "json"],
                exit_code=0 if report else 1,
                duration_s=0.0,
                artifact=artifacts["coverage.json"][0] if "coverage.json" in artifacts else None,
            )
        )
    failing = junit.failing if junit else ()
    return SuiteRun(
        details=ExecutionDetails(
            outcome=ended,
            counts=junit.counts if junit else SuiteCounts(),
            failing=list(failing[:_LISTED_FAILURES]),
            duration_s=finished.duration_s,
            order_seed=order_seed,
            command=_command(layout, answer.get("coverage_options", []), only, coverage=coverage),
            sources=list(layout.sources),
            notes=notes,
        ),
        tools=tuple(tools),
        coverage=report,
        failing_ids=frozenset(test.node_id for test in failing),
        test_files=junit.files if junit else (),
        artifacts=tuple(artifacts.values()),
    )


def _ended(exit_code: int | None, junit: JUnit | None, *, timed_out: bool) -> SuiteOutcome:
    """Tell the outcome; an exit code counts only together with a report that agrees with it."""
    if timed_out:
        return SuiteOutcome.TIMED_OUT
    if junit is None or exit_code is None:
        return SuiteOutcome.UNREPORTED
    total, broken = junit.counts.total, junit.counts.failed + junit.counts.errors
    agreeing = {
        0: (SuiteOutcome.PASSED, total > 0 and not broken and not junit.unfinished),
        1: (SuiteOutcome.FAILED, broken > 0),
        2: (SuiteOutcome.COLLECTION_FAILED, junit.collection_errors > 0),
        5: (SuiteOutcome.NO_TESTS, total == 0),
    }
    outcome, agrees = agreeing.get(exit_code, (SuiteOutcome.UNREPORTED, True))
    return outcome if agrees else SuiteOutcome.UNREPORTED


def _notes(ended: SuiteOutcome, text: str) -> list[str]:
    match ended:
        case SuiteOutcome.TIMED_OUT:
            return ["The suite did not end within its time limit and was stopped."]
        case SuiteOutcome.UNREPORTED:
            return [f"The suite ended without a usable report: {_last_line(text)}"]
        case SuiteOutcome.COLLECTION_FAILED:
            return ["Test files could not be imported, so no test ran."]
        case SuiteOutcome.NO_TESTS:
            return ["The project has no tests that pytest finds."]
        case SuiteOutcome.PASSED | SuiteOutcome.FAILED:
            return []


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def _command(layout: Layout, options: list[str], only: Sequence[str], *, coverage: bool) -> str:
    override = [] if layout.addopts is None else [f"--override-ini=addopts={shlex.join(layout.addopts)}"]
    pytest = ["-m", "pytest", *override, *only]
    return shlex.join(["coverage", "run", *options, *pytest] if coverage else ["python", *pytest])
