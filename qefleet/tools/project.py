"""How a project is laid out, read from its files without running any of them.

Everything here is told from the folder on the worker's side; what only the project's own environment
knows (installed plug-ins, coverage's configuration) is asked inside the sandbox.
"""

from __future__ import annotations

import configparser
import fnmatch
import itertools
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

_NOT_PACKAGES = frozenset(
    {
        "test", "tests", "testing", "doc", "docs", "example", "examples", "sample", "samples", "benchmark",
        "benchmarks", "bench", "perf", "script", "scripts", "tool", "tools", "ci", "build", "dist", "venv",
        "env",
        "node_modules", "requirements", "notebooks", "misc", "htmlcov", "site", "asv_bench",
    }
)  # fmt: skip
_NOT_MODULES = frozenset(
    {
        "setup",
        "conftest",
        "noxfile",
        "tasks",
        "fabfile",
        "dodo",
        "toxfile",
        "versioneer",
        "hatch_build",
        "build",
    }
)
_TEST_FOLDERS = ("tests", "test", "testing")


@dataclass(frozen=True)
class Layout:
    """Where a project keeps its code and its tests, and how it wants pytest to be called."""

    sources: tuple[str, ...]
    """What coverage measures: packages' folders relative to the project, and names of single modules."""
    import_roots: tuple[str, ...]
    """Folders from which the project's modules are imported: `.`, `src`."""
    test_folder: str
    """Where new tests go; may not exist yet."""
    tests_inside: tuple[str, ...]
    """Test folders inside the packages, which coverage leaves out."""
    file_patterns: tuple[str, ...]
    addopts: tuple[str, ...] | None
    """The project's own options without those that disturb measuring; None where nothing has to change."""
    configures_hypothesis: bool
    """Its conftest files or pytest options speak of Hypothesis, so its plug-in has to be there."""

    def test_file(self, stem: str) -> str:
        """Path of a new test file that the project's own configuration collects.

        Args:
            stem: What the file is about, such as `qe_iterutils`.
        """
        name = f"test_{stem}.py"
        if any(fnmatch.fnmatch(name, pattern) for pattern in self.file_patterns):
            return str(PurePosixPath(self.test_folder, name))
        for pattern in self.file_patterns:
            if pattern.count("*") == 1 and "[" not in pattern and "?" not in pattern:
                return str(PurePosixPath(self.test_folder, pattern.replace("*", stem)))
        return str(PurePosixPath(self.test_folder, stem, self.file_patterns[0]))

    def is_test_file(self, file: str) -> bool:
        """Whether pytest would collect a file by its name."""
        return any(fnmatch.fnmatch(PurePosixPath(file).name, pattern) for pattern in self.file_patterns)

    def module_of(self, file: str) -> str | None:
        """Import name of a source file, or None for one that can't be imported by name."""
        path = PurePosixPath(file)
        for root in sorted(self.import_roots, key=len, reverse=True):
            if root != "." and not path.is_relative_to(root):
                continue
            parts = list((path if root == "." else path.relative_to(root)).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            return ".".join(parts) if parts and all(p.isidentifier() for p in parts) else None
        return None


def read_layout(project: Path) -> Layout:
    """Look at a project's folder and its configuration files.

    Args:
        project: The folder; nothing in it is executed, and unreadable configuration counts as none.
    """
    options = _pytest_options(project)
    sources, roots = _sources(project)
    return Layout(
        sources=tuple(sources),
        import_roots=tuple(roots),
        test_folder=_test_folder(project, _words(options.get("testpaths")), sources),
        tests_inside=tuple(_tests_inside(project, sources)),
        file_patterns=tuple(_words(options.get("python_files")) or ("test_*.py", "*_test.py")),
        addopts=_undisturbed(_words(options.get("addopts"))),
        configures_hypothesis="hypothesis" in str(options) or _conftests_mention(project, "hypothesis"),
    )


def configured_in(project: Path, tool: str, files: Sequence[str]) -> str | None:
    """Where a project configures a tool.

    Args:
        project: The project's folder.
        tool: Its name in `pyproject.toml` and `setup.cfg`.
        files: Where the tool looks, in its order. `pyproject.toml` counts where it has a table for it,
            `setup.cfg` where it has a section, any other file where it is there.
    """
    for name in files:
        path = project / name
        if name == "pyproject.toml":
            found = tool in _table(_toml(path), "tool")
        elif name == "setup.cfg":
            found = bool(_ini(path, tool))
        else:
            found = path.is_file()
        if found:
            return name
    return None


def _conftests_mention(project: Path, word: str) -> bool:
    found = itertools.islice(
        itertools.chain(project.glob("conftest.py"), project.glob("*/**/conftest.py")), 50
    )
    return any(word.encode() in path.read_bytes() for path in found if path.is_file())


def _sources(project: Path) -> tuple[list[str], list[str]]:
    folder = project / "src"
    if folder.is_dir() and not (folder / "__init__.py").exists():
        found = [
            (f"src/{item.name}" if item.is_dir() else item.stem)
            for item in sorted(folder.iterdir())
            if _is_package(item) or _is_module(item)
        ]
        if found:
            return found, ["src"]
    packages = [
        item.name
        for item in sorted(project.iterdir())
        if _is_package(item) and item.name.lower() not in _NOT_PACKAGES and (item / "__init__.py").exists()
    ]
    modules = [item.stem for item in sorted(project.iterdir()) if _is_module(item)]
    for nested in ("lib", "python"):
        if not packages and not modules and (project / nested).is_dir():
            found = [
                f"{nested}/{item.name}" for item in sorted((project / nested).iterdir()) if _is_package(item)
            ]
            if found:
                return found, [nested]
    return packages + modules, ["."]


def _is_package(item: Path) -> bool:
    if not item.is_dir() or not item.name.isidentifier() or item.name == "__pycache__":
        return False
    return (item / "__init__.py").exists() or next(item.glob("*/__init__.py"), None) is not None


def _is_module(item: Path) -> bool:
    return (
        item.suffix == ".py"
        and item.is_file()
        and item.stem.isidentifier()
        and item.stem not in _NOT_MODULES
        and not item.stem.startswith("test_")
        and not item.stem.endswith("_test")
    )


def _test_folder(project: Path, testpaths: list[str], sources: list[str]) -> str:
    configured = [
        path
        for text in testpaths
        if text.strip("./")
        for path in sorted(project.glob(text.strip("/")))
        if path.is_dir()
    ]
    for path in sorted(configured, key=lambda path: path.name not in _TEST_FOLDERS):
        return _deepest_test_folder(project, path)
    for name in _TEST_FOLDERS:
        if (project / name).is_dir():
            return name
    inside = list(_tests_inside(project, sources))
    return min(inside, key=len) if inside else "tests"


def _deepest_test_folder(project: Path, path: Path) -> str:
    """The configured folder, or its `unit` folder when all test files lie deeper."""
    relative = path.relative_to(project).as_posix()
    if next(path.glob("*test*.py"), None) is None and (path / "unit").is_dir():
        return f"{relative}/unit"
    return relative


def _tests_inside(project: Path, sources: list[str]) -> Iterator[str]:
    for source in sources:
        root = project / source
        if root.is_dir():
            for path in sorted(root.rglob("*")):
                if path.is_dir() and path.name in {"tests", "test"} and next(path.glob("*test*.py"), None):
                    yield path.relative_to(project).as_posix()


def _pytest_options(project: Path) -> dict[str, Any]:
    """The `[pytest]` options of the first file that pytest itself would take."""
    for name in ("pytest.toml", ".pytest.toml"):
        if (project / name).is_file():
            return _table(_toml(project / name), "pytest")
    for name in ("pytest.ini", ".pytest.ini"):
        if (project / name).is_file():
            return _ini(project / name, "pytest")
    table = _table(_toml(project / "pyproject.toml"), "tool", "pytest")
    if options := (_table(table, "ini_options") or {k: v for k, v in table.items() if k != "ini_options"}):
        return options
    return _ini(project / "tox.ini", "pytest") or _ini(project / "setup.cfg", "tool:pytest")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


def _table(table: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        inner = table.get(key)
        if not isinstance(inner, dict):
            return {}
        table = cast("dict[str, Any]", inner)
    return table


def _ini(path: Path, section: str) -> dict[str, Any]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return dict(parser[section]) if parser.has_section(section) else {}


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            return shlex.split(value, comments=False)
        except ValueError:
            return value.split()
    return [str(item) for item in cast("list[Any]", value)] if isinstance(value, list) else []


_DISTURBING = {  # option → whether it takes a value as its own word
    "-n": True, "--numprocesses": True, "--dist": True, "--maxprocesses": True, "--tx": True, "-x": False,
    "--exitfirst": False, "--maxfail": True, "--lf": False, "--last-failed": False, "--ff": False,
    "--failed-first": False, "--nf": False, "--new-first": False, "--sw": False, "--stepwise": False,
    "--reruns": True, "--reruns-delay": True, "--randomly-seed": True, "--random-order": False,
    "--random-order-bucket": True, "--random-order-seed": True, "--cache-clear": False, "--pdb": False,
}  # fmt: skip
_COVERAGE_WITH_VALUE = frozenset({"--cov-report", "--cov-config", "--cov-fail-under", "--cov-context"})


def _undisturbed(words: list[str]) -> tuple[str, ...] | None:
    """Drop what measures coverage a second time, spreads tests over processes, or stops early."""
    kept: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        name = word.split("=", 1)[0]
        position += 1
        following = words[position] if position < len(words) else "-"
        if name.startswith("--cov"):
            separate = name in _COVERAGE_WITH_VALUE or name == "--cov"
        elif name in _DISTURBING:
            separate = _DISTURBING[name]
        elif name.startswith("-n") and name[2:] and (name[2:].isdigit() or name[2:] in {"auto", "logical"}):
            separate = False
        elif word == "-p" and following in {"randomly", "xdist", "pytest_cov", "no:cacheprovider"}:
            separate = True
        else:
            kept.append(word)
            continue
        if separate and "=" not in word and not following.startswith("-"):
            position += 1
    return None if kept == words else tuple(kept)
