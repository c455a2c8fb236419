"""Read log files: mask what varies in each line, group what is left, count by time.

Runs with the interpreter of the fleet's own environment, on the standard library alone. No pattern below
can take more than linear time on a line, and lines are cut.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s*File "([^"]{1,500})", line (\d{1,7}), in (\S{1,200})')
_RAISED = re.compile(r"([A-Za-z_][\w.]{0,200})(?:: ?(.*))?$")
_MOST_FRAMES = 30
_MOST_TRACEBACKS = 20
_LINE_BYTES = 1 << 16
_SHOWN_CHARS = 300
_MOST_GROUPS = 5000
_MOST_LISTED = 300
_MANY = 6
"""Texts that differ in one word, from which on that word is one that varies."""
_LEAST_WORDS = 3
_WIDTHS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800)
_MOST_BUCKETS = 240
_EARLIEST_S, _LATEST_S = 631152000, 4102444800
"""1990 and 2100: what lies beyond is no time of a log's line; a number above is of milliseconds."""
_OTHER = "(other lines)"

_ISO = re.compile(r"\W?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d{1,9})? ?(Z|[+-]\d\d:?\d\d)?\W?")
_EPOCH = re.compile(r"(\d{10})(?:\.\d{1,9})?\b")
_SYSLOG = re.compile(r"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)")
_APACHE = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]")
_ERROR = re.compile(
    r"\b(?:ERROR|ERR|CRITICAL|FATAL|SEVERE|ALERT|EMERG|PANIC)\b"
    r"|\[(?:error|crit|alert|emerg)\]|\blevel=\W?(?:error|fatal|critical|panic)\b"
)
_LEVEL = re.compile(r"\b(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?)\b")
_STATUS_5 = re.compile(r'" 5\d\d\b')
_MASK = re.compile(
    r"""(?=["'/0-9]|\b[a-zA-Z])"""  # where one of them can begin at all: half the time of a line is here
    r'(?:(?P<status>(?<=" )[1-5]\d\d\b)'
    r"""|(?P<str>"[^"]{0,300}"|(?<!\w)'[^']{0,300}'(?!\w))"""
    r"|(?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)"
    r"|(?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)"
    r"|(?P<url>\b[a-z][a-z0-9+]{1,9}://[^\s,;]+)"
    r"|(?P<ip>\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d{1,5})?\b)"
    r"|(?P<path>(?<![\w/.])/[\w.@%+~-]+(?:/[\w.@%+~-]*)*)"
    r"|(?P<hex>\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}\b)"
    r"|(?P<n>\d+(?:[.,]\d+)*))"
)


@dataclass
class Group:
    """Lines with one text."""

    path: str
    line: int
    """Where it is first."""
    events: int = 0
    errors: int = 0
    times: array[int] = field(default_factory=lambda: array("q"))
    error_times: array[int] = field(default_factory=lambda: array("q"))

    def take(self, other: Group) -> None:
        """Become the group of both; the one that was first says where."""
        self.events += other.events
        self.errors += other.errors
        self.times += other.times
        self.error_times += other.error_times


class Tracebacks:
    """Collects Python's tracebacks line by line, those of one exception out of one place together."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, tuple[tuple[str, int, str], ...]], dict[str, Any]] = {}
        self._frames: list[tuple[str, int, str]] | None = None
        self._begins = ("", 0)

    def take(self, line: str, path: str, number: int) -> None:
        """Look at one line."""
        if _TRACEBACK in line:
            self._frames, self._begins = [], (path, number)
        elif self._frames is not None:
            if match := _FRAME.match(line):
                self._frames = [*self._frames, (match[1], int(match[2]), match[3])][-_MOST_FRAMES:]
            elif not line.startswith(" "):
                if (raised := _RAISED.match(line)) and self._frames:
                    self._keep(raised[1].rpartition(".")[2], raised[2] or "", tuple(self._frames))
                self._frames = None

    def _keep(self, exception: str, message: str, frames: tuple[tuple[str, int, str], ...]) -> None:
        key = (exception, frames)
        if key not in self.found and len(self.found) >= _MOST_GROUPS:
            return
        first = {
            "exception": exception,
            "message": _MASK.sub(_name, message[:_SHOWN_CHARS]),
            "frames": [list(frame) for frame in frames],
            "events": 0,
            "path": self._begins[0],
            "line": self._begins[1],
        }
        self.found.setdefault(key, first)["events"] += 1


class Reader:
    """Groups the lines of files, one after the other."""

    def __init__(self, most_bytes: int) -> None:
        self.groups: dict[str, Group] = {}
        self.lines = 0
        self.left_bytes = most_bytes
        self.unread: list[str] = []
        self.tracebacks = Tracebacks()
        self._place = ("", 0)
        self._known_times: dict[str, int | None] = {}
        self._full = False

    def read(self, path: str) -> None:
        """Read one file, as far as the limit of bytes lets."""
        if self.left_bytes <= 0:
            self.unread.append(path)
            return
        timed = False
        with Path("/src", path).open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_LINE_BYTES), b""), 1):
                self.left_bytes -= len(raw)
                if self.left_bytes < 0:
                    self.unread.append(path)
                    return
                self.lines += 1
                line = raw.decode("utf-8", "replace").rstrip()
                if not line:
                    continue
                self._place = (path, number)
                self.tracebacks.take(line, path, number)
                time, text, error = self._parse(line)
                timed = timed or time is not None
                if time is None and timed:
                    continue  # more of the event above it, such as a traceback
                self._count(path, number, time, text, error=error)

    def _count(self, path: str, number: int, time: int | None, text: str, *, error: bool) -> None:
        masked = " ".join(_MASK.sub(_name, text[: 4 * _SHOWN_CHARS]).split())[:_SHOWN_CHARS]
        group = self.groups.get(masked)
        if group is None:
            if len(self.groups) >= _MOST_GROUPS and not self._full:
                self.groups = vary(self.groups)
                self._full = len(self.groups) > _MOST_GROUPS // 2
            if self._full and len(self.groups) >= _MOST_GROUPS:
                masked = _OTHER
            group = self.groups.setdefault(masked, Group(path, number))
        group.events += 1
        group.errors += error
        if time is not None:
            group.times.append(time)
            if error:
                group.error_times.append(time)

    def _parse(self, line: str) -> tuple[int | None, str, bool]:
        """When a line was written, what it says without that, and whether it tells of an error."""
        if line.startswith("{"):
            try:
                found: Any = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if isinstance(found, dict):
                return self._parse_json(cast("dict[str, Any]", found))
        for pattern, search in ((_ISO, False), (_SYSLOG, False), (_EPOCH, False), (_APACHE, True)):
            match = pattern.search(line[:200]) if search else pattern.match(line)
            if match and (time := self._time(pattern, match)) is not None:
                text = line[: match.start()] + line[match.end() :]
                return time, text.strip(), _tells_of_error(text)
        return None, line, _tells_of_error(line)

    def _parse_json(self, found: dict[str, Any]) -> tuple[int | None, str, bool]:
        def first(*names: str) -> Any:
            return next((found[name] for name in names if found.get(name) is not None), None)

        level = first("level", "severity", "levelname", "log.level", "lvl")
        given = first("timestamp", "time", "ts", "@timestamp", "asctime", "datetime")
        text = first("message", "msg", "event", "log", "text")
        raised = first("exc_info", "exception", "traceback", "stack_trace", "stack")
        for line in raised.splitlines() if isinstance(raised, str) else ():
            self.tracebacks.take(line, *self._place)
        time: int | None = None
        if isinstance(given, int | float):
            time = _plausible(given / 1000 if given > _LATEST_S else given)
        elif isinstance(given, str) and (match := _ISO.match(given) or _EPOCH.match(given)):
            time = self._time(match.re, match)
        if not isinstance(text, str):
            text = " ".join(f"{name}={found[name]}" for name in sorted(found) if found[name] is not given)
        if isinstance(level, int | float):
            return time, text, level >= 50  # noqa: PLR2004 - pino's and bunyan's "error"
        said = str(level or "")
        return time, f"{said} {text}".strip(), _tells_of_error(said.upper())

    def _time(self, pattern: re.Pattern[str], match: re.Match[str]) -> int | None:
        """Seconds since 1970; without a zone UTC, without a year 2000."""
        if pattern is _EPOCH:
            return _plausible(int(match[1]))
        key = f"{match[1]} {match[2]}{match[3] or 'Z'}" if pattern is _ISO else match[1]
        if key not in self._known_times:
            if len(self._known_times) > 1 << 17:
                self._known_times.clear()
            self._known_times[key] = _seconds(pattern, key)
        return self._known_times[key]


def _plausible(time: float) -> int | None:
    return int(time) if _EARLIEST_S <= time <= _LATEST_S else None


def _seconds(pattern: re.Pattern[str], text: str) -> int | None:
    try:
        if pattern is _ISO:
            return _plausible(datetime.fromisoformat(text).timestamp())
        if pattern is _SYSLOG:
            return int(datetime.strptime(f"2000 {text}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC).timestamp())
        return int(datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def _tells_of_error(text: str) -> bool:
    """By the first level that a line names, or a server's status."""
    head = text[:120]
    error = _ERROR.search(head)
    if error is None:
        return _STATUS_5.search(text[:1000]) is not None
    level = _LEVEL.search(head)
    return level is None or error.start() < level.start()


def _name(match: re.Match[str]) -> str:
    kind = match.lastgroup
    return f"{match[0][0]}xx" if kind == "status" else f"<{kind}>"


def vary(groups: dict[str, Group]) -> dict[str, Group]:
    """Bring texts together that differ in one word only, where there are many of them.

    A word varies where at least `_MANY` texts of equal length agree in all others; two or three such texts,
    as "opened" and "closed", stay what they are.
    """
    while True:
        left = dict(groups)
        for hole, texts in sorted(_holes(groups).items(), key=lambda found: (-len(found[1]), found[0])):
            there = [text for text in texts if text in left]
            if len(there) >= _MANY or (len(there) > 1 and hole in there):
                ordered = sorted((left.pop(text) for text in there), key=lambda it: (it.path, it.line))
                merged = Group(ordered[0].path, ordered[0].line)
                for group in ordered:
                    merged.take(group)
                left[hole] = merged
        if len(left) == len(groups):
            return groups
        groups = left


def _holes(groups: dict[str, Group]) -> dict[str, list[str]]:
    """Texts by what is left of them without one of their words."""
    found: dict[str, dict[str, None]] = {}
    for text in sorted(groups):
        words = text.split(" ")
        for place, word in enumerate(words if len(words) >= _LEAST_WORDS else []):
            if word == "<*>" or not word.startswith("<"):
                hole = " ".join([*words[:place], "<*>", *words[place + 1 :]])
                found.setdefault(hole, {})[text] = None
    return {hole: [*texts] for hole, texts in found.items() if len(texts) > 1}


def counts(times: Iterator[int], start: int, width: int, buckets: int) -> list[int]:
    """Events by bucket; those before the first and after the last whole one are left out."""
    found = [0] * buckets
    for time in times:
        bucket = (time - start) // width
        if 0 <= bucket < buckets:
            found[bucket] += 1
    return found


def main() -> None:
    """Read the files of `/qe/spec.json`; the report is `/out/logs.json`."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    reader = Reader(spec["most_bytes"])
    for path in spec["files"]:
        reader.read(path)
    groups = vary(reader.groups)
    last = max((time for group in groups.values() for time in group.times), default=0)
    if spec["window_s"] is not None:
        groups = _since(groups, last - spec["window_s"])
    start = min((time for group in groups.values() for time in group.times), default=0)
    span = last - start + 1
    width = spec["bucket_s"] or next((it for it in _WIDTHS_S if span <= it * _MOST_BUCKETS), _WIDTHS_S[-1])
    buckets = min(span // width, 10 * _MOST_BUCKETS) if last else 0
    listed = sorted(groups, key=lambda text: (not groups[text].errors, -groups[text].events, text))
    everything = [0] * buckets
    errors = [0] * buckets
    templates: list[dict[str, Any]] = []
    for place, text in enumerate(listed):
        group = groups[text]
        found = counts(iter(group.times), start, width, buckets)
        everything = [a + b for a, b in zip(everything, found, strict=True)]
        errors = [
            a + b for a, b in zip(errors, counts(iter(group.error_times), start, width, buckets), strict=True)
        ]
        if place < _MOST_LISTED:
            first = min(group.times, default=None)
            templates.append(
                {
                    "text": text,
                    "path": group.path,
                    "line": group.line,
                    "events": group.events,
                    "errors": group.errors,
                    "first_share": None if first is None else (first - start) / span,
                    "counts": found,
                }
            )
    report = {
        "lines": reader.lines,
        "events": sum(group.events for group in groups.values()),
        "errors": sum(group.errors for group in groups.values()),
        "unread": reader.unread,
        "tracebacks": sorted(
            reader.tracebacks.found.values(), key=lambda it: (-it["events"], it["path"], it["line"])
        )[:_MOST_TRACEBACKS],
        "templates_total": len(groups),
        "templates": templates,
        "start": start,
        "bucket_s": width,
        "buckets": buckets,
        "series": {"all": everything, "errors": errors},
    }
    Path("/out/logs.json").write_text(json.dumps(report), "utf-8")


def _since(groups: dict[str, Group], start: int) -> dict[str, Group]:
    """What was written from `start` on; lines without a time stay."""
    kept: dict[str, Group] = {}
    for text, group in groups.items():
        times = array("q", (time for time in group.times if time >= start))
        errors = array("q", (time for time in group.error_times if time >= start))
        gone, errors_gone = len(group.times) - len(times), len(group.error_times) - len(errors)
        if group.events > gone:
            kept[text] = Group(
                group.path, group.line, group.events - gone, group.errors - errors_gone, times, errors
            )
    return kept


if __name__ == "__main__":
    main()
