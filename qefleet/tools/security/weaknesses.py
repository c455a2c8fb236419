"""Weaknesses in a project's own code: bandit, and ruff's rules of the same family, as one list.

| bandit says | sure | fairly sure | unsure |
|---|---|---|---|
| HIGH | high | high | medium |
| MEDIUM | medium | medium | low |
| LOW | low | low | low |

ruff says neither how severe nor how sure: what it alone has found is low or medium. What is found in tests
isn't counted: they assert, start programs and hold made-up passwords by trade. The project's settings for
the two aren't read; comments at a line (`nosec`, `noqa`) are, and bandit's are counted.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from qefleet.contracts.issues import Issue, Severity, issue_id
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground
from qefleet.tools.program import Tool, ToolReport, run_tool

T = TypeVar("T")

BANDIT = Tool(name="bandit", done=frozenset({0, 1}))
RUFF = Tool(name="ruff", done=frozenset({0, 1}))

_SEVERITIES: Mapping[tuple[str, str], Severity] = {
    ("HIGH", "HIGH"): "high",
    ("HIGH", "MEDIUM"): "high",
    ("HIGH", "LOW"): "medium",
    ("MEDIUM", "HIGH"): "medium",
    ("MEDIUM", "MEDIUM"): "medium",
}
_LOW_OF_RUFF = re.compile(r"S(101|105|106|107|110|112|311|603|606|607|4\d\d)")
_TEST_FOLDERS = frozenset({"test", "tests", "testing"})
_TEST_FILE = re.compile(r"(test_.*|.*_test|tests?|conftest)\.py")
_QUOTED = re.compile(r":\s*['\"].*", re.DOTALL)
_HARD_CODED = frozenset({"B105", "B106", "B107"})


@dataclass(frozen=True)
class BanditFindings:
    """Bandit's report."""

    issues: tuple[Issue, ...]
    unread: tuple[str, ...]
    suppressed: int


@dataclass(frozen=True)
class RuffFindings:
    """Ruff's report."""

    issues: tuple[Issue, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Weaknesses:
    """What both have found, once each."""

    issues: tuple[Issue, ...]
    agreed: int


async def run_bandit(ground: Ground, *, timeout_s: float) -> ToolReport[BanditFindings]:
    """Run bandit over all Python files of a project; its report is kept without the code that it quotes."""
    report = await run_tool(
        ground,
        BANDIT,
        ["--recursive", ".", "--format", "json", "--quiet", "--exit-zero", "--ini", "/qe/bandit.ini"],
        read=_read_bandit,
        files={"/qe/bandit.ini": b"[bandit]\n"},
        timeout_s=timeout_s,
    )
    return _with_artifact(report, _without_code)


async def run_ruff(ground: Ground, *, timeout_s: float) -> ToolReport[RuffFindings]:
    """Run ruff's `S` rules over all Python files of a project."""
    arguments = ["check", "--isolated", "--select", "S", "--output-format", "json", "--no-cache"]
    return await run_tool(
        ground, RUFF, [*arguments, "--no-respect-gitignore", "."], read=_read_ruff, timeout_s=timeout_s
    )


def merged(bandit: Sequence[Issue], ruff: Sequence[Issue]) -> Weaknesses:
    """One issue where both have found the same: `B608` and `S608` on lines that overlap."""
    by_place: dict[tuple[str | None, str], list[int]] = defaultdict(list)
    for number, issue in enumerate(bandit):
        by_place[issue.path, issue.rule[1:]].append(number)
    kept = list(bandit)
    agreed: set[int] = set()
    for issue in ruff:
        twins = [n for n in by_place[issue.path, issue.rule[1:]] if _overlap(issue, bandit[n])]
        agreed.update(twins)
        if not twins:
            kept.append(issue)
    return Weaknesses(tuple(kept), len(agreed))


def is_test(path: str) -> bool:
    """Whether a file belongs to a project's tests, by its name or its folder's."""
    place = PurePosixPath(path)
    return bool(_TEST_FOLDERS & set(place.parts[:-1]) or _TEST_FILE.fullmatch(place.name))


def _overlap(issue: Issue, other: Issue) -> bool:
    first, last = issue.line or 0, issue.end_line or issue.line or 0
    return (other.line or 0) <= last and first <= (other.end_line or other.line or 0)


def _read_bandit(content: bytes) -> BanditFindings:
    report: dict[str, Any] = json.loads(content)
    totals: dict[str, int] = report["metrics"]["_totals"]
    return BanditFindings(
        issues=tuple(_bandit_issue(found) for found in report["results"]),
        unread=tuple(sorted(_relative(error["filename"]) for error in report["errors"])),
        suppressed=totals["nosec"] + totals["skipped_tests"],
    )


def _bandit_issue(found: dict[str, Any]) -> Issue:
    path = _relative(found["filename"])
    lines: list[int] = found["line_range"]
    return Issue(
        id=issue_id(found["test_id"], path, found["line_number"]),
        tool=BANDIT.name,
        rule=found["test_id"],
        severity=_SEVERITIES.get((found["issue_severity"], found["issue_confidence"]), "low"),
        message=bandit_message(found),
        path=path,
        line=found["line_number"],
        end_line=max([found["line_number"], *lines]),
    )


def bandit_message(found: dict[str, Any]) -> str:
    """What bandit says of a place, without the password that it has found there."""
    text: str = found["issue_text"]
    return _QUOTED.sub("", text) if found["test_id"] in _HARD_CODED else text


def _read_ruff(content: bytes) -> RuffFindings:
    report: list[dict[str, Any]] = json.loads(content)
    found = [item for item in report if str(item["code"]).startswith("S")]
    return RuffFindings(
        issues=tuple(_ruff_issue(item) for item in found),
        unread=tuple(sorted({_relative(item["filename"]) for item in report if item not in found})),
    )


def _ruff_issue(found: dict[str, Any]) -> Issue:
    path, line = _relative(found["filename"]), found["location"]["row"]
    return Issue(
        id=issue_id(found["code"], path, line),
        tool=RUFF.name,
        rule=found["code"],
        severity="low" if _LOW_OF_RUFF.fullmatch(found["code"]) else "medium",
        message=found["message"],
        path=path,
        line=line,
        end_line=max(line, found["end_location"]["row"]),
    )


def _relative(filename: str) -> str:
    return filename.removeprefix("/src/").removeprefix("./")


def _without_code(content: bytes) -> bytes:
    report = json.loads(content)
    for found in report["results"]:
        found["issue_text"] = bandit_message(found)
        del found["code"]
    return json.dumps(report, indent=1).encode()


def _with_artifact(report: ToolReport[T], change: Callable[[bytes], bytes]) -> ToolReport[T]:
    """The report with another artifact in place of what the tool wrote; none where it can't be read."""
    if report.run is None or report.run.artifact is None:
        return report
    written = report.run.artifact
    others = tuple(kept for kept in report.artifacts if kept[0] != written)
    if report.value is None:
        return replace(report, run=report.run.model_copy(update={"artifact": None}), artifacts=others)
    content = change(dict(report.artifacts)[written])
    kept = reference(content, name=written.name, media_type=written.media_type)
    return replace(
        report,
        run=report.run.model_copy(update={"artifact": kept}),
        artifacts=((kept, content), *others),
    )
