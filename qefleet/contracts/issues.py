"""Issues: what a tool found to be wrong, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from qefleet.contracts.base import Model

Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info")


class Issue(Model):
    """One thing that a tool reported; `details["issues"]` of an agent's measurement has them.

    Reports, SARIF and a model's citations name it by its `id`.
    """

    id: str
    """Unique in its measurement, such as `B608@app/db.py:12`."""
    tool: str
    rule: str
    """The tool's own name for the kind of issue, such as `B608`."""
    severity: Severity
    message: str
    path: str | None = None
    """Relative to the project; null for what has no place."""
    line: int | None = None
    end_line: int | None = None
    known: bool = False
    """It was there before: in the base of diff mode, or in a baseline that the project keeps."""


def numbered(issues: Iterable[Issue]) -> list[Issue]:
    """Issues, the most severe first, each with an id of its own: equal ones get `#2`, `#3`."""
    seen: dict[str, int] = {}
    found: list[Issue] = []
    for issue in sorted(issues, key=_order):
        ordinal = seen[issue.id] = seen.get(issue.id, 0) + 1
        found.append(issue if ordinal == 1 else issue.model_copy(update={"id": f"{issue.id}#{ordinal}"}))
    return found


def issue_id(rule: str, path: str | None, line: int | None) -> str:
    """An issue's id from its rule and place."""
    place = "" if path is None else f"@{path}" + ("" if line is None else f":{line}")
    return f"{rule}{place}"


def _order(issue: Issue) -> tuple[int, str, int, str, str]:
    return (
        SEVERITIES.index(issue.severity),
        issue.path or "",
        issue.line or 0,
        issue.rule,
        issue.message,
    )
