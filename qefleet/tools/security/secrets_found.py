"""Secrets in a project's files: detect-secrets, without asking anybody whether they are valid.

A string of the shape of one provider's credentials, or a private key, is critical. What may be a secret is
not: passwords by their variable's name and credentials in a URL are medium, strings that look random low.
In tests, credentials are mostly made up: one of a provider's shape is medium there, all else is left out.
No secret's text goes into a result: detect-secrets gives its SHA-1 alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from qefleet.contracts.issues import Issue, Severity, issue_id
from qefleet.tools.ground import Ground
from qefleet.tools.program import Tool, ToolReport, run_tool
from qefleet.tools.security.weaknesses import is_test

DETECT_SECRETS = Tool(name="detect-secrets", module="detect_secrets")

_UNSURE: Mapping[str, Severity] = {
    "Basic Auth Credentials": "medium",
    "JSON Web Token": "medium",
    "Secret Keyword": "medium",
    "Base64 High Entropy String": "low",
    "Hex High Entropy String": "low",
    "Public IP (ipv4)": "info",
}
_HASH_CHARS = 12


async def run_detect_secrets(
    ground: Ground, *, leave_out: Sequence[str] = (), timeout_s: float
) -> ToolReport[list[Issue]]:
    """Look for secrets in all files of a project, tracked by git or not.

    Args:
        ground: The project's workspace.
        leave_out: Files not to look into: the hashes of a baseline look like secrets.
        timeout_s: Wall time after which it is stopped.
    """
    names = "|".join(re.escape(name) for name in leave_out)
    excluded = ["--exclude-files", rf"^(\./)?({names})$"] if names else []
    return await run_tool(
        ground,
        DETECT_SECRETS,
        ["scan", "--all-files", "--no-verify", *excluded, "."],
        read=_read,
        timeout_s=timeout_s,
    )


def secret_message(found: dict[str, Any]) -> str:
    """What is said of a secret: its kind, and enough of its hash to tell it from others."""
    return f"{found['type']}, SHA-1 {found['hashed_secret'][:_HASH_CHARS]}"


def secret_rule(found: dict[str, Any]) -> str:
    """The kind of a secret as a rule's name, such as `aws-access-key`."""
    return "-".join(str(found["type"]).lower().replace("(", "").replace(")", "").split())


def _read(content: bytes) -> list[Issue]:
    results: dict[str, list[dict[str, Any]]] = json.loads(content)["results"]
    issues = [_issue(path.removeprefix("./"), found) for path in sorted(results) for found in results[path]]
    return [issue for issue in issues if issue]


def _issue(path: str, found: dict[str, Any]) -> Issue | None:
    severity: Severity = _UNSURE.get(found["type"], "critical")
    if is_test(path):
        if severity != "critical":
            return None
        severity = "medium"
    rule = secret_rule(found)
    return Issue(
        id=issue_id(rule, path, found["line_number"]),
        tool=DETECT_SECRETS.name,
        rule=rule,
        severity=severity,
        message=secret_message(found),
        path=path,
        line=found["line_number"],
    )
