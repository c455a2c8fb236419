from __future__ import annotations

import io

from rich.console import Console

from qefleet.contracts.measured import Measured, Measurement, Metric, Unmeasured
from qefleet.contracts.progress import Progress, StepProgress
from qefleet.contracts.runs import AgentResult, Decision, RunResult, StepError, Usage
from worker.cli.progress import elapsed, progress_view
from worker.cli.summary import summary_rows


def _step(agent: str, position: int, metrics: dict[str, float], **more: object) -> AgentResult:
    measured: dict[str, Metric] = {n: Measured(value=v, unit="", tool=0) for n, v in metrics.items()}
    body = {
        "step": f"{agent}#{position}",
        "agent": agent,
        "status": "completed",
        "measured": Measurement(metrics=measured),
    }
    return AgentResult.model_validate(body | more)


def test_summary_tells_what_was_kept_gained_spent_and_decided() -> None:
    """Each figure is the measured one; filters that rejected nothing are left out."""
    generated = {
        "generation.proposed": 9.0,
        "generation.kept": 4.0,
        "generation.rejected.static": 3.0,
        "generation.rejected.runs": 2.0,
        "generation.rejected.gain": 0.0,
        "coverage.before.line_percent": 80.0,
        "coverage.line_percent": 85.5,
        "coverage.before.lines_covered": 800.0,
        "coverage.lines_covered": 855.0,
        "coverage.lines_total": 1000.0,
        "mutants.killed": 7.0,
        "mutants.total": 10.0,
    }
    result = RunResult(
        decision=Decision.GO,
        target="pypi:a==1",
        model="local",
        steps=[
            _step("test-generator", 0, generated),
            _step("test-executor", 1, {"tests.total": 12.0, "tests.passed": 11.0, "tests.skipped": 1.0}),
        ],
        usage=Usage(calls=5, replayed_calls=2, input_tokens=12345, output_tokens=678, cost_usd=None),
    )

    assert dict(summary_rows(result, took_s=125.0)) == {
        "decision": "[bold green]GO[/]",
        "target": "pypi:a==1",
        "model": "local",
        "tests kept": "4 of 9 proposed; rejected: 3 by static, 2 by runs",
        "lines covered": "80.00 % → 85.50 % (800 → 855 of 1000)",
        "mutants": "7 of 10 killed",
        "suite": "12 tests: 11 passed, 0 failed, 1 skipped",
        "model calls": "5, 2 from the ledger",
        "tokens": "12,345 in, 678 out",
        "cost": "unknown",
        "time": "2:05",
    }


def test_what_was_not_measured_is_not_told() -> None:
    """An unmeasured coverage gives no row, least of all a zero."""
    metrics: dict[str, Metric] = {"coverage.line_percent": Unmeasured(reason="no suite")}
    step = _step("coverage-analyzer", 0, {}, measured=Measurement(metrics=metrics))
    result = RunResult(target="/x", model="none", steps=[step])

    assert "lines covered" not in dict(summary_rows(result, took_s=None))


def test_failed_step_is_told_with_its_reason() -> None:
    """A run that went on after a failure doesn't hide it."""
    failed = _step(
        "test-executor", 1, {}, status="failed", error=StepError(type="TargetError", message="no [tests]")
    )

    rows = dict(summary_rows(RunResult(target="/x", model="none", steps=[failed]), took_s=None))

    assert rows["test-executor#1 failed"] == r"TargetError: no \[tests]"


def test_lines_are_printed_once_where_there_is_no_terminal() -> None:
    """A log in CI has one line a change, not one a second."""
    out = io.StringIO()
    running = StepProgress(
        step="test-executor#0", agent="test-executor", status="running", headline="12 tests"
    )
    waiting = StepProgress(step="quality-gate#1", agent="quality-gate", status="waiting")
    progress = Progress(phase="test-executor", target="/x", steps=[running, waiting])

    with progress_view(Console(file=out)) as view:
        view.show(progress)
        view.show(progress)
        view.show(
            progress.model_copy(
                update={"steps": [running.model_copy(update={"status": "completed"}), waiting]}
            )
        )

    assert [line[9:].split() for line in out.getvalue().splitlines()] == [
        ["phase", "test-executor"],
        ["test-executor#0", "▶", "running", "12", "tests"],
        ["test-executor#0", "✓", "completed", "12", "tests"],
    ]


def test_durations_are_minutes_and_seconds() -> None:
    """Whole seconds, and a dash where there is none."""
    assert [elapsed(s) for s in (0.4, 59.6, 3725, None)] == ["0:00", "1:00", "62:05", "-"]
