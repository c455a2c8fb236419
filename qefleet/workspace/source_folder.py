"""Read a folder of the user's: what git would commit of it, or all but caches where there is no git.

Reading only: the folder is never written, and nothing in it is executed.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

from qefleet.errors import TargetError
from qefleet.workspace.archive import Entry, Meter, Tree, safe_path, stays_inside
from qefleet.workspace.git import HARDENED, Git, GitFailed

_NOT_SOURCE = frozenset(
    {
        ".git", ".hg", ".svn", ".jj", ".bzr", "__pycache__", ".venv", "venv", ".env", ".tox", ".nox", ".eggs",
        ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".cache", "node_modules", ".idea",
        ".import_linter_cache", ".DS_Store",
    }
)  # fmt: skip
_NOTES_MAX = 20


async def read_folder(folder: Path) -> Tree:
    """All files of a folder that count as its source.

    Raises:
        TargetError: It is missing, empty, not a folder, not readable or too big.
    """
    await asyncio.to_thread(_refuse_unusable, folder)
    names, scm_version = await _listed_by_git(folder)
    return await asyncio.to_thread(_read, folder, names, scm_version)


def project_name(folder: Path) -> str:
    """The name that the project gives itself, else the folder's."""
    try:
        with (folder / "pyproject.toml").open("rb") as file:
            name = tomllib.load(file).get("project", {}).get("name")
    except (OSError, ValueError, AttributeError):
        name = None
    return (
        name if isinstance(name, str) and re.fullmatch(r"[\w.-]{1,100}", name) else folder.name or "project"
    )


async def _listed_by_git(folder: Path) -> tuple[list[str] | None, str | None]:
    """What git tracks or would track, and the version of the last tag; None where git knows nothing."""
    git = Git(folder)
    try:
        listed = await git.run(*HARDENED, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    except GitFailed:
        return None, None
    if not listed:
        return None, None  # a folder that its surrounding repository ignores, such as one in build/
    try:
        described = await git.run(*HARDENED, "describe", "--tags", "--abbrev=0")
    except GitFailed:
        described = b""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name], version_of_tag(
        described.decode(errors="replace")
    )


def version_of_tag(tag: str) -> str | None:
    """The version in a tag such as `v1.2.3` or `name-1.2.3`, or None."""
    found = re.search(r"(?:^|[-_/v])(\d+(?:\.\d+)+(?:(?:a|b|rc|\.post|\.dev)\d+)?)$", tag.strip())
    return found[1] if found else None


def _read(folder: Path, names: list[str] | None, scm_version: str | None) -> Tree:
    meter = Meter()
    entries: list[Entry] = []
    for name in sorted(set(names)) if names is not None else _walk(folder, meter):
        entry = _entry(folder, name, meter)
        if entry is not None:
            entries.append(entry)
    if not entries:
        raise TargetError(f"the folder {folder} has no files to look at" + _first_note(meter))
    dropped = len(meter.notes) - _NOTES_MAX
    more = [f"and {dropped} more of this kind"] if dropped > 0 else []
    return Tree(tuple(entries), (*meter.notes[:_NOTES_MAX], *more), scm_version)


def _refuse_unusable(folder: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
        if is_folder:
            next(folder.iterdir(), None)
    except FileNotFoundError as error:
        raise TargetError(f"there is no folder {folder}") from error
    except OSError as error:
        raise TargetError(f"the folder {folder} can't be read: {error.strerror}") from error
    if not is_folder:
        raise TargetError(f"{folder} isn't a folder: point at the project's root")


def _first_note(meter: Meter) -> str:
    return f": {meter.notes[0]}" if meter.notes else ""


def _walk(folder: Path, meter: Meter) -> Iterator[str]:
    def note(error: OSError) -> None:
        meter.notes.append(f"left out, can't be read: {os.path.relpath(error.filename, folder)!r}")

    for place, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(
            name for name in folders if name not in _NOT_SOURCE and not name.endswith(".egg-info")
        )
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        relative = os.path.relpath(place, folder)
        for name in sorted((*files, *linked)):
            if name not in _NOT_SOURCE and not name.endswith((".pyc", ".pyo")):
                yield name if relative == "." else f"{relative}/{name}"


def _entry(folder: Path, name: str, meter: Meter) -> Entry | None:  # noqa: PLR0911  one return for each kind
    """One file, or None with a note when it can't be part of a snapshot."""
    path = folder / name
    if not safe_path(name):
        meter.notes.append(f"left out, a name that no archive should have: {name!r}")
        return None
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None  # tracked by git, deleted from the folder
    except OSError as error:
        meter.notes.append(f"left out, {error.strerror}: {name!r}")
        return None
    if stat.S_ISLNK(found.st_mode):
        link = str(path.readlink())
        if not stays_inside(name, link):
            meter.notes.append(f"left out, a link that leads out of the tree: {name!r}")
            return None
        meter.add(0)
        return Entry(name, link=link)
    if stat.S_ISDIR(found.st_mode):
        meter.notes.append(f"left out, a git submodule or a repository of its own: {name!r}")
        return None
    if not stat.S_ISREG(found.st_mode):
        meter.notes.append(f"left out, neither file nor link: {name!r}")
        return None
    meter.add(found.st_size)
    try:
        # Not blocked by a pipe, not led astray by a link, should either have taken the file's place by now.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(found.st_size)
    except OSError as error:
        meter.notes.append(f"left out, {error.strerror}: {name!r}")
        return None
    return Entry(name, content=content, executable=bool(found.st_mode & 0o100))
