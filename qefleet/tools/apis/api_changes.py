"""What has broken in a project's Python API and in its OpenAPI descriptions.

The Python API is read and compared by griffe, from syntax trees alone. OpenAPI descriptions are compared by a
program of our own (`inside/qe_openapi.py`), since no maintained comparison can be installed with the fleet:
by the clear cases, and it says what it left out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any, cast

from packaging.version import InvalidVersion, Version

from qefleet.contracts.issues import Issue, Severity
from qefleet.tools.ground import Ground
from qefleet.tools.program import Tool, ToolReport, run_tool
from qefleet.tools.project import read_layout

GRIFFE = Tool(name="griffe", inside="qe_griffe")
OPENAPI = Tool(name="openapi comparison", inside="qe_openapi", distribution="pyyaml")

_SEVERITIES: dict[str, Severity] = {
    "PARAMETER_CHANGED_DEFAULT": "low",
    "ATTRIBUTE_CHANGED_VALUE": "info",
    "CLASS_REMOVED_BASE": "medium",
    "RETURN_CHANGED_TYPE": "medium",
    "ATTRIBUTE_CHANGED_TYPE": "medium",
}
_SAID = {
    "PARAMETER_MOVED": "a positional parameter was moved",
    "PARAMETER_REMOVED": "a parameter was removed",
    "PARAMETER_CHANGED_KIND": "a parameter's kind was changed",
    "PARAMETER_CHANGED_DEFAULT": "a parameter's default was changed",
    "PARAMETER_CHANGED_REQUIRED": "a parameter became required",
    "PARAMETER_ADDED_REQUIRED": "a required parameter was added",
    "RETURN_CHANGED_TYPE": "another type is returned",
    "OBJECT_REMOVED": "it was removed",
    "OBJECT_CHANGED_KIND": "it is another kind of object",
    "ATTRIBUTE_CHANGED_TYPE": "its type was changed",
    "ATTRIBUTE_CHANGED_VALUE": "its value was changed",
    "CLASS_REMOVED_BASE": "a base class was removed",
}
_SPECS = re.compile(r"(?i)^(openapi|swagger)[\w.-]*\.(json|ya?ml)$")
_ELSEWHERE = {"node_modules", ".git", ".venv", "venv", "site-packages", "tests", "test"}
_MOST_SPECS = 50
_DUNDER_VERSION = re.compile(r"""(?m)^__version__(?:\s*:\s*str)?\s*=\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True)
class Api:
    """What is promised now, and what has broken."""

    names: tuple[str, ...]
    size: int
    """Public objects, or operations."""
    changes: tuple[Issue, ...]
    content: bytes
    """As JSON, to hold a later version against."""
    version: str | None = None
    not_compared: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def packages(project: Path) -> list[str]:
    """Import names of the project's packages and modules, tests left out."""
    return sorted({PurePosixPath(source).name for source in read_layout(project).sources})


def specs(project: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Paths of the project's OpenAPI descriptions, by their usual names or as patterns name them."""
    patterns = wanted or ["**/*.json", "**/*.yaml", "**/*.yml"]
    found = {path for pattern in patterns if ".." not in pattern for path in project.glob(pattern.strip("/"))}
    kept = [
        path.relative_to(project).as_posix()
        for path in found
        if path.is_file()
        and not path.is_symlink()
        and (wanted or (_SPECS.match(path.name) and not _ELSEWHERE & {*path.relative_to(project).parts}))
    ]
    return sorted(kept)[:_MOST_SPECS]


async def python_api(ground: Ground, base: bytes | None = None) -> ToolReport[Api]:
    """Read the Python API, and hold it against an earlier one.

    Args:
        ground: The project's workspace; it needs a package or module.
        base: `Api.content` of the earlier version.
    """
    layout = read_layout(ground.project)
    spec = {"roots": [f"/src/{root}" for root in layout.import_roots], "packages": packages(ground.project)}
    inside = tuple(f"{folder}/" for folder in layout.tests_inside)

    def read(content: bytes) -> Api:
        answer: dict[str, Any] = json.loads(content)
        found = [_python_change(change) for change in answer["changes"]]
        return Api(
            names=tuple(answer["packages"]),
            size=answer["objects"],
            changes=tuple(
                change for change in found if not (change.path or "").startswith(inside or ("//",))
            ),
            content=json.dumps(answer["packages"]).encode(),
        )

    files = {"/qe/api-spec.json": json.dumps(spec).encode()}
    return await _run(ground, GRIFFE, files, base, read=read, report="api.json")


async def openapi(ground: Ground, paths: Sequence[str], base: bytes | None = None) -> ToolReport[Api]:
    """Read OpenAPI descriptions, and hold them against earlier ones of the same paths.

    Args:
        ground: The project's workspace.
        paths: Of the descriptions, relative to the project.
        base: `Api.content` of the earlier version.
    """

    def read(content: bytes) -> Api:
        answer: dict[str, Any] = json.loads(content)
        documents: dict[str, Any] = answer["documents"]
        versions = [str(document.get("info", {}).get("version", "")) for document in documents.values()]
        return Api(
            names=tuple(documents),
            size=answer["operations"],
            changes=tuple(_openapi_change(change) for change in answer["changes"]),
            content=json.dumps(documents).encode(),
            version=versions[0] if versions and len(set(versions)) == 1 else None,
            not_compared=tuple(answer["not_compared"]),
            unreadable=tuple(answer["unreadable"]),
        )

    files = {"/qe/openapi-spec.json": json.dumps({"specs": list(paths)}).encode()}
    return await _run(ground, OPENAPI, files, base, read=read, report="openapi.json")


async def _run(
    ground: Ground, tool: Tool, files: dict[str, bytes], base: bytes | None, *, read: Any, report: str
) -> ToolReport[Api]:
    laid = files if base is None else {**files, "/qe/base.json": base}
    return await run_tool(ground, tool, [], read=read, report=report, files=laid, timeout_s=120.0)


def read_back(report: bytes) -> bytes | None:
    """`Api.content` of a report that was kept; None where it is none."""
    try:
        answer: Any = json.loads(report)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    found = cast("dict[str, Any]", answer)
    content = found.get("packages") or found.get("documents")
    return json.dumps(content).encode() if content else None


def version_of(project: Path) -> str | None:
    """What a project says that its version is; None where it only says so when it is built."""
    pkg_info = project / "PKG-INFO"
    if pkg_info.is_file():
        return Parser().parsestr(_text(pkg_info), headersonly=True).get("Version")
    try:
        metadata = cast("dict[str, Any]", tomllib.loads(_text(project / "pyproject.toml")).get("project", {}))
    except tomllib.TOMLDecodeError:
        metadata = {}
    if isinstance(version := metadata.get("version"), str):
        return version
    for source in read_layout(project).sources:
        file = project / source / "__init__.py" if (project / source).is_dir() else project / f"{source}.py"
        if found := _DUNDER_VERSION.search(_text(file)):
            return found[1]
    return None


def announced(before: str | None, now: str | None) -> bool:
    """Whether a version was raised as semantic versioning asks of a breaking change."""
    try:
        old, new = Version(before or ""), Version(now or "")
    except InvalidVersion:
        return False
    return new.release[:1] > old.release[:1] or (new.major == old.major == 0 and new.minor > old.minor)


def is_breaking(issue: Issue) -> bool:
    """Whether consumers break by it; changed defaults and values alone are shown and not counted."""
    return issue.severity not in {"low", "info"}


def _python_change(change: dict[str, Any]) -> Issue:
    kind: str = change["kind"]
    about = " -> ".join(part for part in (change["old"], change["new"]) if part)
    return Issue(
        id=f"{kind}@{change['object']}",
        tool=GRIFFE.name,
        rule=kind,
        severity=_SEVERITIES.get(kind, "high"),
        message=f"{change['object']}: {_SAID.get(kind, kind)}" + (f": {about}" if about else ""),
        path=change["path"],
        line=change["line"],
    )


def _openapi_change(change: dict[str, Any]) -> Issue:
    message: str = change["message"]
    return Issue(
        id=f"{change['rule']}@{message.partition(':')[0]}",
        tool="openapi",
        rule=change["rule"],
        severity=change["severity"],
        message=message,
        path=change["path"],
        line=change["line"],
    )


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
