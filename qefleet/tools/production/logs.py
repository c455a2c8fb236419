"""A project's log files: read in the sandbox, told apart by what they say, and their rates judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qefleet.contracts.production import Anomaly, ChangePoint, Template
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.production.series import LEAST_BUCKETS, Burst, Change, Series, all_tests
from qefleet.tools.program import Tool, ToolReport, read_report
from qefleet.workspace.sandbox import GIB, Limits

LOGS = Tool(name="qe-logs", distribution="qefleet")

_SERIES = 100
"""Templates whose rates are judged: those with errors first, then the most frequent."""
_LATE_SHARE = 0.9
_LATE_BUCKETS = 20
_LIMITS = Limits(memory_bytes=2 * GIB)
_EXPLAINED = 0.5
"""Of an excess in all lines: when templates have so much of it, they tell of it."""
_NEAR = 3


@dataclass(frozen=True, kw_only=True)
class Traceback:
    """One exception out of one place."""

    exception: str
    message: str
    """Masked."""
    frames: tuple[tuple[str, int, str], ...]
    """File, line and function, as the log has them; the innermost last."""
    events: int
    path: str
    line: int
    """Where it is first in the logs."""


@dataclass(frozen=True, kw_only=True)
class Logs:
    """What log files say."""

    lines: int
    events: int
    errors: int
    templates_total: int
    templates: tuple[Template, ...]
    unread: tuple[str, ...]
    begins: str | None
    start: int
    bucket_s: int
    buckets: int
    tracebacks: tuple[Traceback, ...]
    series: dict[str, list[int]]
    """Counts by bucket of `all`, of `errors`, and of templates by their ids."""


def matching(project: Path, patterns: Sequence[str]) -> list[str]:
    """Files of a project that match one of the globs, sorted; no links.

    Raises:
        ValueError: A pattern leads out of the project, or is none.
    """
    found: set[str] = set()
    for pattern in patterns:
        if ".." in Path(pattern).parts:
            raise ValueError(f"{pattern!r} leads out of the project")
        try:
            files = [file for file in project.glob(pattern) if file.is_file() and not file.is_symlink()]
        except NotImplementedError as error:
            raise ValueError(f"{pattern!r} has to be relative to the project") from error
        found |= {file.relative_to(project).as_posix() for file in files}
    return sorted(found)


async def read_logs(
    ground: Ground,
    files: Sequence[str],
    *,
    window_s: int | None,
    bucket_s: int | None,
    most_bytes: int,
    timeout_s: float,
) -> ToolReport[Logs]:
    """Read log files inside the sandbox: what they hold was written by strangers.

    Args:
        ground: The project's workspace.
        files: Paths relative to the project, in the order in which they are read.
        window_s: How much of the log counts, back from its last line; all of it without.
        bucket_s: Width of a bucket; by the log's span without it.
        most_bytes: What is beyond isn't read.
        timeout_s: Wall time after which it is stopped.
    """
    spec = {"files": list(files), "window_s": window_s, "bucket_s": bucket_s, "most_bytes": most_bytes}
    outcome = await run_program(
        ground,
        "qe_logs",
        spec,
        collect=["logs.json"],
        limits=replace(_LIMITS, wall_s=timeout_s, cpu_s=timeout_s),
        tools=True,
    )
    return read_report(
        LOGS,
        LOGS.version() or "unknown",
        argv=["qe_logs", *files],
        finished=outcome.finished,
        content=outcome.outputs.get("logs.json"),
        read=_read,
        name="logs.json",
    )


def judge_rates(logs: Logs) -> tuple[list[Anomaly], list[ChangePoint]]:
    """What stands out and what changed; told by templates where they explain what all lines show.

    There is nothing to judge in fewer than 20 buckets.
    """
    if logs.buckets < LEAST_BUCKETS:
        return [], []
    tests = all_tests(logs.series)
    judged = {name: Series(counts, tests) for name, counts in logs.series.items()}
    bursts = [(name, burst) for name, series in judged.items() for burst in series.bursts]
    changes = [(name, change) for name, series in judged.items() for change in series.changes]
    bursts = [it for it in bursts if not _told_by_templates(it, bursts)]
    changes = [it for it in changes if not _changed_in_templates(it, changes)]
    bursts.sort(key=lambda it: (it[1].first, it[1].p, it[0]))
    changes.sort(key=lambda it: (it[1].bucket, it[1].p, it[0]))
    anomalies = [_anomaly(logs, n, name, burst) for n, (name, burst) in enumerate(bursts, 1)]
    return anomalies, [_change_point(logs, n, name, it) for n, (name, it) in enumerate(changes, 1)]


def when(start: int, bucket_s: int, bucket: int) -> str:
    """The beginning of a bucket, as UTC."""
    return datetime.fromtimestamp(start + bucket * bucket_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _anomaly(logs: Logs, number: int, name: str, burst: Burst) -> Anomaly:
    return Anomaly(
        id=f"anomaly-{number}",
        series=name,
        begins=when(logs.start, logs.bucket_s, burst.first),
        ends=when(logs.start, logs.bucket_s, burst.last + 1),
        observed=burst.observed,
        expected=round(burst.expected, 3),
        p=burst.p,
    )


def _change_point(logs: Logs, number: int, name: str, change: Change) -> ChangePoint:
    return ChangePoint(
        id=f"change-{number}",
        series=name,
        at=when(logs.start, logs.bucket_s, change.bucket),
        bucket=change.bucket,
        before=round(change.before, 3),
        after=round(change.after, 3),
        p=change.p,
    )


def _told_by_templates(found: tuple[str, Burst], bursts: Sequence[tuple[str, Burst]]) -> bool:
    name, burst = found
    if name not in ("all", "errors"):
        return False
    theirs = sum(
        other.observed - other.expected
        for series, other in bursts
        if series not in ("all", "errors") and other.first <= burst.last and burst.first <= other.last
    )
    excess = burst.observed - burst.expected
    return theirs * excess > 0 and abs(theirs) >= _EXPLAINED * abs(excess)


def _changed_in_templates(found: tuple[str, Change], changes: Sequence[tuple[str, Change]]) -> bool:
    name, change = found
    if name not in ("all", "errors"):
        return False
    theirs = sum(
        other.after - other.before
        for series, other in changes
        if series not in ("all", "errors") and abs(other.bucket - change.bucket) <= _NEAR
    )
    grown = change.after - change.before
    return theirs * grown > 0 and abs(theirs) >= _EXPLAINED * abs(grown)


def _read(content: bytes) -> Logs:
    report: dict[str, Any] = json.loads(content)
    start, width, buckets = int(report["start"]), int(report["bucket_s"]), int(report["buckets"])
    series: dict[str, list[int]] = {"all": report["series"]["all"], "errors": report["series"]["errors"]}
    templates: list[Template] = []
    for place, found in enumerate(report["templates"]):
        share = found["first_share"]
        template = Template(
            id="line-" + hashlib.sha256(found["text"].encode()).hexdigest()[:8],
            text=found["text"],
            path=found["path"],
            line=found["line"],
            events=found["events"],
            errors=found["errors"],
            new=share is not None and share >= _LATE_SHARE and buckets >= _LATE_BUCKETS,
        )
        templates.append(template)
        if place < _SERIES:
            series[template.id] = found["counts"]
    return Logs(
        lines=int(report["lines"]),
        events=int(report["events"]),
        errors=int(report["errors"]),
        templates_total=int(report["templates_total"]),
        templates=tuple(templates),
        unread=tuple(report["unread"]),
        begins=when(start, width, 0) if buckets else None,
        start=start,
        bucket_s=width,
        buckets=buckets,
        tracebacks=tuple(
            Traceback(
                exception=it["exception"],
                message=it["message"],
                frames=tuple((str(file), int(line), str(name)) for file, line, name in it["frames"]),
                events=it["events"],
                path=it["path"],
                line=it["line"],
            )
            for it in report["tracebacks"]
        ),
        series=series,
    )
