"""Exact versions of what a project needs: those that its own lock files name, else those of its environment.

What it needs for its tests alone isn't shipped and isn't looked at: the environment's closure starts from
the project's own requirements, and lock files that hold what developers need as well are narrowed to it.
Lists to install from (`requirements.txt`, `requirements.lock`, the default part of `Pipfile.lock`) are taken
whole.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from qefleet.contracts.measured import ArtifactRef, ToolRun
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground, read_json, run_program
from qefleet.tools.program import ToolReport
from qefleet.workspace.requirements import read_plan
from qefleet.workspace.sandbox import Limits

_MOST_BYTES = 16 << 20
_SECONDS = 60.0
_TO_INSTALL = frozenset({"requirements.txt", "requirements.lock", "Pipfile.lock"})


@dataclass(frozen=True, order=True)
class Pin:
    """One exact version."""

    name: str
    """As packages are compared: lower case, with dashes."""
    version: str
    path: str | None = None
    """The project's file that names it; None for the environment's."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Installed:
    """What is in a target's environment."""

    project: str | None
    """The project's own distribution, where it is installed."""
    installed: Mapping[str, str]
    """All versions by name."""
    needed: Mapping[str, str]
    """Of them, what the project needs when it runs."""
    absent: tuple[str, ...]
    """What it needs too, and isn't there."""
    known: bool = True
    """Whether the project says what it needs at all."""
    python: str = "unknown"
    """The interpreter's version."""


def locked_pins(project: Path) -> list[Pin]:
    """What the project's lock files and `requirements.txt` name with exact versions, sorted, each once.

    Args:
        project: The project's folder; files that can't be read count as absent.
    """
    found: dict[tuple[str, str], Pin] = {}
    for name, read in _READERS.items():
        path = project / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            named = list(read(path.read_text("utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for package, version in named:
            if pin := _pin(package, version, name):
                found.setdefault((pin.name, pin.version), pin)
    return sorted(found.values(), key=lambda pin: (pin.name, pin.version))


async def find_installed(ground: Ground) -> ToolReport[Installed]:
    """Ask the target's interpreter what is installed, and what of it the project needs."""
    plan = read_plan(ground.project)
    outcome = await run_program(
        ground,
        "qe_installed",
        {"requirements": [*plan.dependencies, *_listed(ground.project)]},
        collect=["installed.json"],
        limits=Limits(wall_s=_SECONDS, cpu_s=_SECONDS),
    )
    content = outcome.outputs.get("installed.json")
    value = _installed(read_json(content)) if outcome.finished.exit_code == 0 else None
    artifacts: tuple[tuple[ArtifactRef, bytes], ...] = ()
    if content:
        artifacts = ((reference(content, name="installed.json", media_type="application/json"), content),)
    lines = outcome.finished.text.strip().splitlines() or ["it said nothing"]
    reason = "" if value else f"the target's environment can't be listed: {lines[-1][:300]}"
    run = ToolRun(
        tool="importlib.metadata",
        version=f"Python {value.python}" if value else "unknown",
        argv=list(outcome.finished.argv),
        exit_code=outcome.finished.exit_code,
        duration_s=outcome.finished.duration_s,
        artifact=artifacts[0][0] if artifacts else None,
        problem=reason,
    )
    return ToolReport(run=run, value=value, reason=reason, artifacts=artifacts)


def chosen_pins(locked: list[Pin], installed: Installed) -> list[Pin]:
    """What the project needs at the versions of its lock files, else at those of its environment."""
    needed = {*installed.needed, *installed.absent}
    kept = [pin for pin in locked if not installed.known or pin.path in _TO_INSTALL or pin.name in needed]
    named = {pin.name for pin in kept}
    others = [
        pin
        for name, version in installed.needed.items()
        if name not in named and (pin := _pin(name, version, None))
    ]
    return sorted([*kept, *others], key=lambda pin: (pin.name, pin.version))


def _installed(answer: Any) -> Installed | None:
    try:
        return Installed(
            project=answer["project"],
            installed={str(name): str(version) for name, version in answer["installed"].items()},
            needed={str(name): str(version) for name, version in answer["needed"].items()},
            absent=tuple(str(name) for name in answer["absent"]),
            known=bool(answer["known"]),
            python=str(answer["python"]),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _pin(name: str, version: str, path: str | None) -> Pin | None:
    """A pin that is what it seems: nothing else gets into a requirements file."""
    try:
        return Pin(canonicalize_name(name, validate=True), str(Version(version)), path)
    except (ValueError, InvalidVersion):
        return None


def _listed(project: Path) -> list[str]:
    """Lines of `requirements.txt`: what an application needs that isn't installed as a package."""
    path = project / "requirements.txt"
    if path.is_symlink() or not path.is_file():
        return []
    return [line for line in _lines(path.read_text("utf-8", "replace")) if not line.startswith("-")]


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        if kept := line.partition(" #")[0].partition(" --")[0].strip().removesuffix(";"):
            yield kept


def _requirements(text: str) -> Iterator[tuple[str, str]]:
    for line in _lines(text):
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        exact = [part.version for part in wanted.specifier if part.operator in {"==", "==="}]
        if len(wanted.specifier) == 1 and exact and not exact[0].endswith(".*"):
            yield wanted.name, exact[0]


def _toml_lock(text: str) -> Iterator[tuple[str, str]]:
    """The tables of uv, Poetry, PDM and pylock, without the project's own packages."""
    lock = tomllib.loads(text)
    for package in [*lock.get("package", []), *lock.get("packages", [])]:
        source = cast("dict[str, Any]", package.get("source") or package)
        if "version" in package and not {"editable", "virtual", "directory", "path"} & source.keys():
            yield package["name"], package["version"]


def _pipfile_lock(text: str) -> Iterator[tuple[str, str]]:
    for name, package in json.loads(text)["default"].items():
        if str(package.get("version", "")).startswith("=="):
            yield name, package["version"].removeprefix("==")


_READERS: Mapping[str, Callable[[str], Iterator[tuple[str, str]]]] = {
    "uv.lock": _toml_lock,
    "poetry.lock": _toml_lock,
    "pdm.lock": _toml_lock,
    "pylock.toml": _toml_lock,
    "Pipfile.lock": _pipfile_lock,
    "requirements.lock": _requirements,
    "requirements.txt": _requirements,
}
