"""Shows a run's progress: a table that changes in place on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from qefleet.contracts.progress import Progress, StepProgress

_MARKS = {"waiting": "·", "running": "▶", "completed": "✓", "failed": "✗", "skipped": "-"}
_STYLES = {"waiting": "dim", "running": "cyan", "completed": "green", "failed": "bold red", "skipped": "dim"}


class View(Protocol):
    """What shows progress."""

    def show(self, progress: Progress) -> None:
        """Show this state."""
        ...

    def say(self, text: str) -> None:
        """Print a line that stays."""
        ...


@contextmanager
def progress_view(console: Console) -> Generator[View]:
    """The view that fits this console, until the block ends."""
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield _Table(live)
    else:
        yield _Lines(console)


class _Table:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._began = datetime.now(UTC)

    def show(self, progress: Progress) -> None:
        self._live.update(Group(self._headline(progress), steps_table(progress)))

    def say(self, text: str) -> None:
        self._live.console.print(text)

    def _headline(self, progress: Progress) -> Spinner | Text:
        text = f"{progress.target} · {progress.phase} · model {progress.model or '…'}"
        return Text(text) if progress.phase == "done" else Spinner("dots", text=Text(text))


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, str] = {}

    def show(self, progress: Progress) -> None:
        self._say_once("phase", progress.phase)
        for step in progress.steps:
            if step.status != "waiting":
                self._say_once(step.step, f"{_MARKS[step.status]} {step.status} {step.headline}".rstrip())

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _say_once(self, key: str, text: str) -> None:
        if self._said.get(key) != text:
            self._said[key] = text
            self._console.print(f"{datetime.now(UTC):%H:%M:%S} {key:<20} {escape(text)}", soft_wrap=True)


def steps_table(progress: Progress) -> Table:
    """One line an agent."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "agent", "result"):
        table.add_column(heading)
    for heading in ("calls", "cost", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in progress.steps:
        table.add_row(
            _MARKS[step.status],
            step.agent,
            Text(step.headline or step.status),
            str(step.calls) if step.calls else "-",
            cost(step.cost_usd) if step.calls else "-",
            elapsed(_seconds(step)),
            style=_STYLES[step.status],
        )
    return table


def _seconds(step: StepProgress) -> float | None:
    if step.started_at is None:
        return None
    return ((step.ended_at or datetime.now(UTC)) - step.started_at).total_seconds()


def cost(usd: float | None) -> str:
    """A sum of money, or that it isn't known."""
    return "unknown" if usd is None else f"${usd:.4f}"


def elapsed(seconds: float | None) -> str:
    """A duration, such as `2:05`."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
