"""Telling new issues from those that the base of diff mode has too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from qefleet.contracts.changes import Changes
from qefleet.contracts.issues import Issue

_LINE = re.compile(r"\bline \d+")


def marked_known(issues: Sequence[Issue], base: Iterable[Issue], changes: Changes) -> list[Issue]:
    """Issues in their order, those marked as known that the base has as well.

    Lines move, so an issue is told by its tool, rule, file and message. Where there are more of them than
    in the base, those on changed lines are the new ones.

    Args:
        issues: Of the project as it is.
        base: Of the project as it was.
        changes: What has changed in between.
    """
    left = Counter(_identity(issue) for issue in base)
    untouched_first = sorted(range(len(issues)), key=lambda index: _touched(issues[index], changes))
    known: set[int] = set()
    for index in untouched_first:
        identity = _identity(issues[index])
        if left[identity]:
            left[identity] -= 1
            known.add(index)
    return [issue.model_copy(update={"known": index in known}) for index, issue in enumerate(issues)]


def _touched(issue: Issue, changes: Changes) -> bool:
    if issue.path is None or issue.line is None:
        return False
    return changes.touch(issue.path, issue.line, issue.end_line or issue.line)


def _identity(issue: Issue) -> tuple[str, str, str | None, str]:
    """Messages may name another line, such as that of a first definition."""
    return issue.tool, issue.rule, issue.path, _LINE.sub("line", issue.message)
