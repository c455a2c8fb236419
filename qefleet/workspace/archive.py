"""A tree of files as one archive: the same files give the same bytes, wherever they were read.

The archive is a gzipped tar, sorted, without times and owners. What people should know about the reading,
and the version that the project's tags tell, travel in its global header, so they are part of its digest.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qefleet.errors import TargetError

FILES_MAX = 50_000
BYTES_MAX = 500 * (1 << 20)

_NOTES = "QE.notes"
_SCM_VERSION = "QE.scm_version"


@dataclass(frozen=True)
class Entry:
    """One file or link of a tree."""

    path: str
    """Relative, with `/`; bytes that aren't UTF-8 are escaped as `os.fsdecode` does."""
    content: bytes = b""
    link: str | None = None
    """Where it leads, when it is a symbolic link."""
    executable: bool = False


@dataclass(frozen=True)
class Tree:
    """What was read from a target."""

    entries: Sequence[Entry]
    notes: Sequence[str] = ()
    scm_version: str | None = None
    """The version that the project's tags tell, for build back ends that ask version control."""


@dataclass
class Meter:
    """Counts what is being read and refuses what is too much before it is in memory.

    Raises (from `add`):
        TargetError: Too many files, or too many bytes.
    """

    files: int = 0
    size_bytes: int = 0
    notes: list[str] = field(default_factory=list[str])

    def add(self, size_bytes: int) -> None:
        """Account for one more file."""
        self.files += 1
        self.size_bytes += size_bytes
        if self.files > FILES_MAX:
            raise TargetError(
                f"the target has more than {FILES_MAX} files: point at a subfolder, or exclude what isn't "
                "source (.gitignore is honoured in a git checkout)"
            )
        if self.size_bytes > BYTES_MAX:
            raise TargetError(
                f"the target has more than {BYTES_MAX >> 20} MB: point at a subfolder, or exclude data "
                "(.gitignore is honoured in a git checkout)"
            )


def stays_inside(path: str, link: str) -> bool:
    """Whether a symbolic link at `path` leads to a place in the tree."""
    if link.startswith("/"):
        return False
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return target != ".." and not target.startswith("../")


def safe_path(path: str) -> bool:
    """Whether a relative path names a place in the tree."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in {"", ".", "..", ".git"} for part in parts)


def pack(tree: Tree) -> bytes:
    """The archive of a tree."""
    header = {_NOTES: json.dumps(list(tree.notes))}
    if tree.scm_version:
        header[_SCM_VERSION] = tree.scm_version
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT, pax_headers=header) as tar:
        for entry in sorted(tree.entries, key=lambda entry: os.fsencode(entry.path)):
            info = tarfile.TarInfo(entry.path)
            if entry.link is not None:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
                tar.addfile(info)
            else:
                info.size, info.mode = len(entry.content), 0o755 if entry.executable else 0o644
                tar.addfile(info, io.BytesIO(entry.content))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0, filename="") as file:
        file.write(raw.getbuffer())
    return packed.getvalue()


def unpack(archive: bytes, folder: Path) -> Tree:
    """Write an archive of `pack` below an empty folder; the returned tree has no entries.

    Files get modes that let the sandbox's user change its own layer of them: the folder must lie in one
    that nobody else can enter.
    """
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for info in tar:
            place = folder / info.name
            if not safe_path(info.name):
                raise TargetError(f"the archive names a place outside of the tree: {info.name!r}")
            make_folders(folder, place.parent)
            if info.issym():
                if not stays_inside(info.name, info.linkname):
                    raise TargetError(f"the archive has a link that leads out of the tree: {info.name!r}")
                place.symlink_to(info.linkname)
            elif info.isreg() and (source := tar.extractfile(info)) is not None:
                # Never through a link that an earlier entry made.
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                with source, os.fdopen(descriptor, "wb") as file:
                    shutil.copyfileobj(source, file)
                    os.fchmod(descriptor, 0o777 if info.mode & 0o100 else 0o666)
            else:
                raise TargetError(f"the archive has an entry that is neither file nor link: {info.name!r}")
        headers = tar.pax_headers
    folder.chmod(0o777)
    return Tree((), tuple(json.loads(headers.get(_NOTES, "[]"))), headers.get(_SCM_VERSION))


def make_folders(root: Path, folder: Path) -> None:
    """Make the folders from root down to folder, refusing links on the way."""
    place = root
    for part in folder.relative_to(root).parts:
        place = place / part
        if place.is_symlink():
            raise TargetError(f"{place.relative_to(root)} is a link where the archive has a folder")
        if not place.is_dir():
            place.mkdir()
            place.chmod(0o777)


def measure(tree: Iterable[Entry]) -> tuple[int, int]:
    """Number of files and links, and their bytes."""
    sizes = [len(entry.content) for entry in tree]
    return len(sizes), sum(sizes)
