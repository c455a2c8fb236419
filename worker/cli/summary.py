"""A run's end, as a table: what was kept, what was gained, what it cost, what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from worker.cli.progress import cost, elapsed

if TYPE_CHECKING:
    from qefleet.contracts.runs import RunResult

_COLOURS = {"GO": "bold green", "CONDITIONAL": "bold yellow", "NO_GO": "bold red"}
_REJECTED = "generation.rejected."


class Figures:
    """The measured figures of a whole run, by name: the last step that measured one has the say."""

    def __init__(self, result: RunResult) -> None:
        self._values = {
            name: value
            for step in result.steps
            for name in step.measured.metrics
            if (value := step.measured.value(name)) is not None
        }

    def get(self, name: str) -> float | None:
        """The figure, or None where nothing measured it."""
        return self._values.get(name)

    def rejected(self) -> dict[str, int]:
        """How many proposed tests each filter rejected."""
        found = {
            n.removeprefix(_REJECTED): int(v) for n, v in self._values.items() if n.startswith(_REJECTED)
        }
        return {name: count for name, count in found.items() if count}


def print_summary(
    console: Console, result: RunResult, *, took_s: float | None, files: list[Path], ui: str | None
) -> None:
    """Print it.

    Args:
        console: Where to.
        result: As the workflow returned it.
        took_s: Seconds from the run's begin to its end.
        files: Those of the report, where they were written.
        ui: The run's page in the Temporal UI.
    """
    rows = [*summary_rows(result, took_s=took_s)]
    rows += _file_rows(files)
    if ui:
        rows.append(("Temporal UI", escape(ui)))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:  # no table: it would break addresses and paths that people click on
        console.print(f"[bold]{escape(name.ljust(width))}[/]  {value}", soft_wrap=True)
    for note in result.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


def _file_rows(files: list[Path]) -> Iterator[tuple[str, str]]:
    """What people open has a line of its own; what programs read is named together."""
    names = {"report.html": "report", "report.md": "as text", "run.patch": "patch"}
    yield from ((names[path.name], escape(str(path))) for path in files if path.name in names)
    if others := [path for path in files if path.name not in names]:
        yield "for programs", escape(f"{others[0].parent}: {', '.join(path.name for path in others)}")


def summary_rows(result: RunResult, *, took_s: float | None) -> Iterator[tuple[str, str]]:
    """Name and value, as rich markup, of each line that has something to tell."""
    figures = Figures(result)
    decision = result.decision.value if result.decision else "no gate"
    yield "decision", f"[{_COLOURS.get(decision, 'bold')}]{decision}[/]"
    yield "target", escape(result.target)
    yield "model", escape(result.model)
    if (proposed := figures.get("generation.proposed")) is not None:
        kept = figures.get("generation.kept") or 0
        rejected = ", ".join(f"{count} by {name}" for name, count in figures.rejected().items())
        yield (
            "tests kept",
            f"{kept:.0f} of {proposed:.0f} proposed" + (f"; rejected: {rejected}" if rejected else ""),
        )
    elif generator := next((step for step in result.steps if step.agent == "test-generator"), None):
        yield "tests kept", escape(f"none: {generator.headline}")
    yield from coverage_rows(result)
    if total := figures.get("mutants.total"):
        yield "mutants", f"{figures.get('mutants.killed') or 0:.0f} of {total:.0f} killed"
    if (tests := figures.get("tests.total")) is not None:
        parts = [
            f"{figures.get(f'tests.{kind}') or 0:.0f} {kind}" for kind in ("passed", "failed", "skipped")
        ]
        yield "suite", f"{tests:.0f} tests: {', '.join(parts)}"
    usage = result.usage
    replayed = f", {usage.replayed_calls} from the ledger" if usage.replayed_calls else ""
    yield "model calls", f"{usage.calls}{replayed}"
    yield "tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out"
    yield "cost", cost(usage.cost_usd)
    if took_s is not None:
        yield "time", elapsed(took_s)
    for step in result.steps:
        if step.error:
            yield f"{step.step} failed", escape(f"{step.error.type}: {step.error.message}")


def coverage_rows(result: RunResult) -> Iterator[tuple[str, str]]:
    """Name and value of what was measured of lines and branches, before and after."""
    figures = Figures(result)
    for kind in ("line", "branch"):
        if row := _coverage(figures, kind):
            yield row
    for kind, plural in (("line", "lines"), ("branch", "branches")):
        total = figures.get(f"diff.{plural}_total")
        percent = figures.get(f"diff.{kind}_percent")
        if total and percent is not None:
            covered = figures.get(f"diff.{plural}_covered") or 0
            yield f"changed {plural}", f"{percent:.2f} % ({covered:.0f} of {total:.0f})"


def _coverage(figures: Figures, kind: str) -> tuple[str, str] | None:
    plural = "lines" if kind == "line" else "branches"
    after = figures.get(f"coverage.{kind}_percent")
    before = figures.get(f"coverage.before.{kind}_percent")
    if after is None:
        return None
    text = f"{after:.2f} %"
    counts = [figures.get(f"coverage.{part}{plural}_covered") for part in ("before.", "")]
    if before is not None:
        text = f"{before:.2f} % → {text}"
    if counts[0] is not None and counts[1] is not None:
        total = figures.get(f"coverage.{plural}_total")
        text += f" ({counts[0]:.0f} → {counts[1]:.0f}" + (f" of {total:.0f})" if total else ")")
    return f"{plural} covered", text
