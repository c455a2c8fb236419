"""Static analysis of a project's own sources: ruff, mypy, vulture and interrogate.

Where the project configures a tool, its configuration is taken; else fixed rules, so that the numbers mean
the same in each project. Nothing is imported; a mypy plug-in of the project's runs in the sandbox alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from qefleet.contracts.issues import Issue, Severity, issue_id
from qefleet.contracts.quality import FileDocstrings
from qefleet.tools.ground import Ground
from qefleet.tools.own_sources import OwnSources
from qefleet.tools.program import Tool, ToolReport, run_tool
from qefleet.tools.project import configured_in

RUFF = Tool(name="ruff", done=frozenset({0, 1}))
MYPY = Tool(name="mypy", done=frozenset({0, 1}))
VULTURE = Tool(name="vulture", inside="qe_static")
INTERROGATE = Tool(name="interrogate", inside="qe_static")

_RULES = "E4,E7,E9,F,W6,B,PLE"
"""What is wrong or likely a bug, nothing of taste: of pycodestyle, pyflakes, bugbear and pylint's errors."""
_FILES = {
    RUFF: ("ruff.toml", ".ruff.toml", "pyproject.toml"),
    MYPY: ("mypy.ini", ".mypy.ini", "pyproject.toml", "setup.cfg"),
    VULTURE: ("pyproject.toml",),
    INTERROGATE: ("pyproject.toml",),
}
_OWN_RULES = {
    RUFF: f"the fleet's own rules: {_RULES}",
    MYPY: "mypy's defaults, without imports that it can't find",
    VULTURE: "vulture's defaults",
    INTERROGATE: "every module, class and function",
}
_BROKEN = ("invalid-syntax", "E9", "F63", "F7", "F82")
"""Rules whose code fails when it is run."""
_ON_CONFIGURATION = re.compile(r"^[^{\s][^{]*: note: ")
"""Such as `setup.cfg: note: unused section(s): [mypy-tests.*]`; mypy has no option against them."""


@dataclass(frozen=True)
class Docstrings:
    """What interrogate counted."""

    files: list[FileDocstrings]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class DeadCode:
    """What vulture found."""

    issues: list[Issue]
    unreadable: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What the four tools said of one version of a project."""

    lint: ToolReport[list[Issue]]
    types: ToolReport[list[Issue]]
    dead: ToolReport[DeadCode]
    docstrings: ToolReport[Docstrings]
    checked_by: dict[str, str]


async def analyze(
    ground: Ground, own: OwnSources, *, min_confidence: int, timeout_s: float, docstrings: bool = True
) -> Quality:
    """Run the four tools, one after the other.

    Args:
        ground: The project's workspace.
        own: Its own sources, of which there are some.
        min_confidence: Of vulture, in percent.
        timeout_s: Of each tool.
        docstrings: False leaves interrogate out.
    """
    configured = {tool: configured_in(ground.project, tool.name, _FILES[tool]) for tool in _FILES}
    skipped: ToolReport[Docstrings] = ToolReport(run=None, value=None, reason="it was left out")
    return Quality(
        lint=await _ruff(ground, own, configured=configured[RUFF] is not None, timeout_s=timeout_s),
        types=await _mypy(ground, own, configured=configured[MYPY] is not None, timeout_s=timeout_s),
        dead=await run_tool(
            ground,
            VULTURE,
            _inside(VULTURE, own, configured[VULTURE], f"--min-confidence={min_confidence}"),
            read=_dead_code,
            timeout_s=timeout_s,
        ),
        docstrings=await run_tool(
            ground,
            INTERROGATE,
            _inside(INTERROGATE, own, configured[INTERROGATE]),
            read=_docstrings,
            timeout_s=timeout_s,
        )
        if docstrings
        else skipped,
        checked_by={tool.name: where or _OWN_RULES[tool] for tool, where in configured.items()},
    )


async def _ruff(
    ground: Ground, own: OwnSources, *, configured: bool, timeout_s: float
) -> ToolReport[list[Issue]]:
    arguments = ["check", "--output-format=json", "--no-cache", "--no-fix"]
    if not configured:
        arguments += ["--isolated", f"--select={_RULES}"]
    return await run_tool(
        ground, RUFF, [*arguments, *own.paths], read=_reader(own, _lint), timeout_s=timeout_s
    )


def _lint(content: bytes) -> list[Issue]:
    return [
        _issue(
            "ruff",
            rule := str(found["code"] or "invalid-syntax"),
            "medium" if rule.startswith(_BROKEN) else "low",
            found["message"],
            path=PurePosixPath(found["filename"]).relative_to("/src").as_posix(),
            line=found["location"]["row"],
            end_line=found["end_location"]["row"],
        )
        for found in json.loads(content)
    ]


async def _mypy(
    ground: Ground, own: OwnSources, *, configured: bool, timeout_s: float
) -> ToolReport[list[Issue]]:
    arguments = ["--output=json", "--cache-dir=/dev/null", f"--python-executable={ground.python}"]
    env: dict[str, str] = {}
    if not configured:
        arguments += ["--config-file=", "--ignore-missing-imports", "--explicit-package-bases"]
        arguments += [f"--exclude=^{re.escape(folder)}/" for folder in own.without]
        env["MYPYPATH"] = ":".join(PurePosixPath("/src", root).as_posix() for root in own.import_roots)

    def read(content: bytes) -> list[Issue]:
        return _type_errors(content, "medium" if configured else "low")

    report = await run_tool(
        ground, MYPY, [*arguments, *own.paths], read=_reader(own, read), env=env, timeout_s=timeout_s
    )
    return _with_blocker(report)


def _type_errors(content: bytes, severity: Severity) -> list[Issue]:
    """One JSON object a line, between them notes on the configuration; an empty line where there is none."""
    lines = [line for line in content.decode().splitlines() if line.strip()]
    found = [json.loads(line) for line in lines if not _ON_CONFIGURATION.match(line)]
    return [
        _issue(
            "mypy",
            str(error["code"] or "misc"),
            severity,
            error["message"],
            path=error["file"],
            line=error["line"],
            end_line=error.get("end_line"),
        )
        for error in found
        if error["severity"] == "error"
    ]


def _with_blocker(report: ToolReport[list[Issue]]) -> ToolReport[list[Issue]]:
    """What keeps mypy from checking at all it reports like any other error, and ends with 2."""
    if report.value is not None or report.run is None or report.run.artifact is None:
        return report
    try:
        blocker = json.loads(report.artifacts[0][1].splitlines()[0])
        what = f"{blocker['file']}:{blocker['line']}: {blocker['message']}"
    except (ValueError, KeyError, TypeError, IndexError):
        return report
    return replace(report, reason=f"mypy ended with exit code {report.run.exit_code}: {what}"[:500])


def _inside(tool: Tool, own: OwnSources, configured: str | None, *further: str) -> list[str]:
    without = [f"--without={folder}" for folder in own.without]
    return [tool.name, *further, *without, *(["--configured"] if configured else []), *own.paths]


def _dead_code(content: bytes) -> DeadCode:
    """Unused imports are left to ruff; parameters that nothing reads may be what a caller asks for."""
    report = json.loads(content)
    return DeadCode(
        issues=[
            _issue(
                "vulture",
                found["kind"].replace("_", "-"),
                "low" if found["kind"] == "unreachable_code" else "info",
                found["message"],
                path=found["path"],
                line=found["line"],
                end_line=found["end_line"],
            )
            for found in report["found"]
            if found["kind"] != "import"
        ],
        unreadable=dict(report["unreadable"]),
    )


def _docstrings(content: bytes) -> Docstrings:
    report = json.loads(content)
    return Docstrings(
        files=[
            FileDocstrings(path=path, **counted) for path, counted in sorted(report["docstrings"].items())
        ],
        unreadable=dict(report["unreadable"]),
    )


def _reader(own: OwnSources, read: Callable[[bytes], list[Issue]]) -> Callable[[bytes], list[Issue]]:
    """Leaves out what is said of other files: tests inside the packages, and modules that sources import."""
    return lambda content: [issue for issue in read(content) if issue.path and own.has(issue.path)]


def _issue(
    tool: str, rule: str, severity: Severity, message: Any, *, path: str, line: Any, end_line: Any
) -> Issue:
    return Issue(
        id=issue_id(rule, path, line if line > 0 else None),
        tool=tool,
        rule=rule,
        severity=severity,
        message=str(message),
        path=path,
        line=line if line > 0 else None,
        end_line=end_line if line > 0 else None,
    )
