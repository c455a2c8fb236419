"""What a project says that it needs, read from its files without executing anything."""

from __future__ import annotations

import configparser
import email.parser
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

TOOLS = ("pytest>=7", "coverage>=7.4", "hypothesis>=6.100")
"""What our own measurements run in the target's environment."""

_TESTLIKE = ("test", "tests", "testing", "tests-base", "unittest", "pytest")
_DEVLIKE = ("dev", "develop", "development")
_TEST_FILES = (
    "requirements-test*.txt", "requirements_test*.txt", "test-requirements*.txt", "test_requirements*.txt",
    "requirements/test*.txt", "requirements/*-test*.txt", "tests/requirements*.txt", "test/requirements*.txt",
)  # fmt: skip
_DEV_FILES = (
    "requirements-dev*.txt",
    "requirements_dev*.txt",
    "dev-requirements*.txt",
    "requirements/dev*.txt",
)
_SMALL = 1 << 20
_DECLARES = re.compile(
    r"(^|/)(pyproject\.toml|setup\.py|setup\.cfg|pkg-info|manifest\.in|tox\.ini|meson\.build|cmakelists\.txt|"
    r"cargo\.(toml|lock)|build\.rs|hatch_build\.py|[^/]*requirements[^/]*\.(txt|in)|requirements/[^/]*\.(txt|in))$|"
    r"\.(pyx|pxd|pxi|c|cc|cpp|cxx|h|hh|hpp|rs|f|f90|i)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Plan:
    """How to install a project for its tests."""

    install: bool
    """It has a build back end: it is installed, editable."""
    requires_python: str | None
    extras: tuple[str, ...]
    """Tried whether the project has them or not, where its files can't tell."""
    groups: tuple[str, ...]
    files: tuple[str, ...]
    """Requirement files, relative."""
    packages: tuple[str, ...]
    """Requirements that stand in the settings of tox, Hatch, PDM or Poetry."""
    dependencies: tuple[str, ...]
    """The project's own, for when it can't be built."""

    def as_json(self) -> str:
        """For the program that carries it out inside the sandbox."""
        return json.dumps(asdict(self))


def read_plan(project: Path) -> Plan:
    """Read the files that declare requirements; whatever can't be read there counts as absent."""
    pyproject = _toml(project / "pyproject.toml")
    metadata = _table(pyproject, "project")
    setup_cfg = _ini(project / "setup.cfg")
    install = (project / "setup.py").is_file() or bool(
        "build-system" in pyproject or metadata or _table(pyproject, "tool", "poetry").get("name")
    )
    known = set(_table(metadata, "optional-dependencies")) | set(
        _options(setup_cfg, "options.extras_require")
    )
    known |= set(_table(pyproject, "tool", "poetry", "extras"))
    known |= set(_table(pyproject, "tool", "flit", "metadata", "requires-extra"))
    if not known and (project / "setup.py").is_file() and not metadata:
        extras: tuple[str, ...] = (*_TESTLIKE[:3], "dev")
    else:
        extras = _for_tests(known)
    groups = _for_tests(_table(pyproject, "dependency-groups"))
    files = _files(project, _TEST_FILES)
    packages = tuple(dict.fromkeys(_from_tools(project, pyproject)))
    if not (files or packages or groups or any(extra in known for extra in extras)):
        files = _files(project, _DEV_FILES)
    if not install:
        files = (*_files(project, ("requirements.txt",)), *files)
    return Plan(
        install=install,
        requires_python=_requires_python(project, metadata, setup_cfg),
        extras=extras,
        groups=groups,
        files=files,
        packages=packages,
        dependencies=tuple(_strings(metadata.get("dependencies"))),
    )


def fingerprint(project: Path, *more: str) -> str:
    """Changes when the environment of a project may have to change.

    It covers the files that declare requirements, what a build may execute of the project, the sources of
    extension modules, and where packages lie: an editable installation may map them one by one.
    """
    backends = {
        project / path
        for path in _strings(_table(_toml(project / "pyproject.toml"), "build-system").get("backend-path"))
    }
    backends.add(project)
    hashed = hashlib.sha256("\0".join(more).encode())
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        encoded = name.encode("utf-8", "surrogateescape")
        if path.is_symlink() or not path.is_file():
            continue
        is_built_with = path.suffix == ".py" and path.parent in backends
        if is_built_with or _DECLARES.search(name):
            hashed.update(b"\0file\0" + encoded + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        elif path.name == "__init__.py":
            hashed.update(b"\0package\0" + encoded)
    return hashed.hexdigest()


def _for_tests(names: Iterable[str]) -> tuple[str, ...]:
    """Those that are for tests, else those for development, which bring linters and documentation as well."""
    by_key = {re.sub(r"[-_.]+", "-", name).lower(): name for name in names}
    for wanted in (_TESTLIKE, _DEVLIKE):
        if found := tuple(by_key[key] for key in wanted if key in by_key):
            return found
    return ()


def _files(project: Path, patterns: tuple[str, ...]) -> tuple[str, ...]:
    found = {
        path.relative_to(project).as_posix()
        for pattern in patterns
        for path in project.glob(pattern)
        if path.is_file() and not path.is_symlink()
    }
    return tuple(sorted(found))


def _from_tools(project: Path, pyproject: dict[str, Any]) -> Iterator[str]:
    tool = _table(pyproject, "tool")
    environments = _table(tool, "hatch", "envs")
    for name in ("hatch-test", *_TESTLIKE, "default"):
        environment = _table(environments, name)
        for option in ("dependencies", "extra-dependencies"):
            yield from _strings(environment.get(option))
    for name in _for_tests(groups := _table(tool, "pdm", "dev-dependencies")):
        yield from _strings(groups.get(name))
    poetry = _table(tool, "poetry")
    old = _table(poetry, "dev-dependencies")
    groups = _table(poetry, "group")
    for table in [*(_table(groups, name, "dependencies") for name in _for_tests(groups)), old]:
        yield from (name for name in table if name != "python")  # Poetry's version syntax isn't everybody's
    for line in _ini(project / "tox.ini").get("testenv", "deps", fallback="").splitlines():
        requirement = line.rpartition(": ")[2].strip() if ": " in line else line.strip()
        if re.match(r"^[A-Za-z0-9]", requirement) and "{" not in requirement:
            yield requirement


def _requires_python(
    project: Path, metadata: dict[str, Any], setup_cfg: configparser.ConfigParser
) -> str | None:
    candidates = [metadata.get("requires-python"), setup_cfg.get("options", "python_requires", fallback=None)]
    headers = email.parser.HeaderParser().parsestr(_text(project / "PKG-INFO"))
    candidates.append(headers.get("Requires-Python"))
    if found := re.search(r"python_requires\s*=\s*[\"']([^\"']+)[\"']", _text(project / "setup.py")):
        candidates.append(found[1])
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            try:
                return str(SpecifierSet(candidate.strip()))
            except InvalidSpecifier:
                continue
    return None


def _text(path: Path) -> str:
    try:
        if path.is_symlink() or path.stat().st_size > _SMALL:
            return ""
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(_text(path))
    except configparser.Error:
        parser.clear()
    return parser


def _options(parser: configparser.ConfigParser, section: str) -> list[str]:
    return parser.options(section) if parser.has_section(section) else []


def _table(value: Any, *path: str) -> dict[str, Any]:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  parsed TOML
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  parsed TOML


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]  parsed TOML
