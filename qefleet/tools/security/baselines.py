"""What a project has accepted before: the baselines that it keeps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from qefleet.contracts.issues import Issue
from qefleet.tools.security.secrets_found import DETECT_SECRETS, secret_message, secret_rule
from qefleet.tools.security.weaknesses import BANDIT, bandit_message
from qefleet.workspace.archive import safe_path

Key = tuple[str, str, str | None, str]

_MOST_BYTES = 16 << 20


def key(issue: Issue) -> Key:
    """The same for the same issue, wherever its lines have moved."""
    return issue.tool, issue.rule, issue.path, issue.message


def mark_accepted(issues: Iterable[Issue], accepted: Counter[Key]) -> list[Issue]:
    """Issues, those that are accepted marked as known: as many of a kind as were accepted."""
    left = Counter(accepted)
    marked: list[Issue] = []
    for issue in issues:
        old = left[key(issue)] > 0
        left[key(issue)] -= old
        marked.append(issue.model_copy(update={"known": True}) if old else issue)
    return marked


def beyond(issues: Iterable[Issue], others: Iterable[Issue]) -> list[Issue]:
    """Issues that the others don't have, or not as many of."""
    left = Counter(key(issue) for issue in others)
    found: list[Issue] = []
    for issue in issues:
        left[key(issue)] -= 1
        if left[key(issue)] < 0:
            found.append(issue)
    return found


def read_baselines(project: Path, names: Iterable[str]) -> tuple[Counter[Key], list[str]]:
    """What the named files accept.

    | file | made by |
    |---|---|
    | `results` by file | `detect-secrets scan` |
    | `results` as a list | `bandit --format json` |
    | `issues` | this agent: the details of an earlier result |

    Args:
        project: The project's folder.
        names: Files in it; those that aren't there accept nothing.

    Returns:
        Keys of issues, and what can't be read, with the reason.
    """
    known: Counter[Key] = Counter()
    unusable: list[str] = []
    for name in names:
        path = project / name
        if not safe_path(name) or not path.resolve().is_relative_to(project.resolve()):
            unusable.append(f"{name}: it isn't in the project")
        elif path.is_file():
            try:
                if path.stat().st_size > _MOST_BYTES:
                    unusable.append(f"{name}: it is larger than {_MOST_BYTES} bytes")
                    continue
                known.update(_keys(json.loads(path.read_bytes())))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                unusable.append(f"{name}: it is no baseline ({type(error).__name__}: {error})"[:300])
    return known, unusable


def _keys(content: dict[str, Any]) -> list[Key]:
    if "issues" in content:
        return [key(Issue.model_validate(found)) for found in content["issues"]]
    results: Any = content["results"]
    if isinstance(results, list):
        return [
            (BANDIT.name, found["test_id"], found["filename"].removeprefix("./"), bandit_message(found))
            for found in cast("list[dict[str, Any]]", results)
        ]
    return [
        (DETECT_SECRETS.name, secret_rule(found), path, secret_message(found))
        for path, secrets in cast("dict[str, list[dict[str, Any]]]", results).items()
        for found in secrets
    ]
