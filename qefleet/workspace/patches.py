"""Unified diffs: what agents propose, laid over a snapshot or, when asked, over the user's tree."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from qefleet.errors import TargetError
from qefleet.workspace.archive import safe_path
from qefleet.workspace.git import HARDENED, Git, GitFailed


def make_patch(base: Path, files: Mapping[str, str]) -> bytes:
    """A diff that turns the files below `base` into these texts; new files too. Empty when nothing differs.

    Args:
        base: The tree that the patch will be applied to.
        files: Whole new texts by relative path.

    Raises:
        ValueError: A path leads out of the tree, or names a link or a folder.
    """
    parts: list[bytes] = []
    for name in sorted(files):
        if not safe_path(name) or posixpath.normpath(name) != name or '"' in name or not name.isprintable():
            raise ValueError(f"no path for a patch: {name!r}")
        place = base / name
        if place.is_symlink() or place.is_dir():
            raise ValueError(f"a patch can't replace a link or a folder: {name!r}")
        is_new = not place.exists()
        before = b"" if is_new else place.read_bytes()
        after = files[name].encode()
        if before == after and not is_new:
            continue
        parts.append(f"diff --git a/{name} b/{name}\n".encode())
        if is_new:
            parts.append(b"new file mode 100644\n")
        if not after and is_new:
            continue
        old_name = b"/dev/null" if is_new else f"a/{name}".encode()
        lines = difflib.diff_bytes(
            difflib.unified_diff,
            _lines(before),
            _lines(after),
            old_name,
            f"b/{name}".encode(),
            lineterm=b"\n",
        )
        for number, line in enumerate(lines):
            if number < 2 and " " in name:  # noqa: PLR2004  the two lines with names
                line = line.rstrip(b"\n") + b"\t\n"  # noqa: PLW2901  git's own way to end a name with spaces
            parts.append(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n")
    return b"".join(parts)


def combine_patches(patches: Iterable[bytes]) -> bytes:
    """One patch from those of several agents, of which some knew nothing of each other.

    Agents that work side by side may each add a file of the same name, such as tests of one module. The same
    content is added once. Of different contents of the fleet's own files (`qe_` stands in their names) the
    later one goes to a name of its own, such as `test_qe2_module.py`.

    Args:
        patches: In the order in which they are to be applied.

    Raises:
        TargetError: Two add different files that only one of them can name; nothing is written then.
    """
    added: dict[str, bytes] = {}
    parts: list[bytes] = []
    for patch in patches:
        renamed: dict[str, str] = {}
        for name, section in _sections(patch):
            if _DELETES.search(section):
                added.pop(name, None)
            elif _ADDS.search(section):
                place = _placed(name, renamed)
                if place == name and added.get(name, section) != section:
                    own, other = _another_name(name, added)
                    renamed[own] = other
                    place = _placed(name, renamed)
                if place in added:
                    continue
                section = _moved(section, name, place)  # noqa: PLW2901 - as it will be added
                added[place] = section
            else:
                section = _moved(section, name, _placed(name, renamed))  # noqa: PLW2901 - as it will be changed
            parts.append(section)
    return b"".join(parts)


def added_files(patch: bytes) -> list[str]:
    """Files that a patch adds, relative, in its order."""
    return [name for name, section in _sections(patch) if _ADDS.search(section)]


_SECTION = re.compile(rb"^diff --git a/(.+) b/\1$", re.MULTILINE)
_ADDS = re.compile(rb"^new file mode ", re.MULTILINE)
_DELETES = re.compile(rb"^deleted file mode ", re.MULTILINE)
_OWN = re.compile(r"(?<![a-z0-9])qe_")


def _sections(patch: bytes) -> Iterator[tuple[str, bytes]]:
    """Each file's part, with its name. A line of content begins with a sign, so none is taken for a head."""
    heads = list(_SECTION.finditer(patch))
    ends = [*(head.start() for head in heads[1:]), len(patch)]
    if not heads and patch.strip():
        yield "", patch
    for head, end in zip(heads, ends, strict=True):
        yield head[1].decode(errors="surrogateescape"), patch[head.start() : end]


def _another_name(name: str, taken: Mapping[str, bytes]) -> tuple[str, str]:
    """The file or folder of ours to rename, and to what."""
    places = list(_OWN.finditer(name))
    if not places:
        raise TargetError(f"two agents each add {name}, and differently: let one see the other's result")
    found = places[-1]
    end = name.find("/", found.end())
    own = name[:end] if end >= 0 else name
    number = 2
    while True:
        other = f"{own[: found.start()]}qe{number}_{own[found.end() :]}"
        if not any(path == other or path.startswith(f"{other}/") for path in taken):
            return own, other
        number += 1


def _placed(name: str, renamed: Mapping[str, str]) -> str:
    for own, other in renamed.items():
        if name == own or name.startswith(f"{own}/"):
            return other + name[len(own) :]
    return name


def _moved(section: bytes, name: str, place: str) -> bytes:
    """A file's part under another name: its header says it up to four times."""
    if place == name:
        return section
    head, hunks, rest = section.partition(b"\n@@ ")
    old, new = name.encode(errors="surrogateescape"), place.encode(errors="surrogateescape")
    for side in (b"a/", b"b/"):
        head = head.replace(side + old, side + new)
    return head + hunks + rest


async def apply_patch(folder: Path, patch: bytes) -> None:
    """Lay one patch over a tree of our own.

    Raises:
        TargetError: It doesn't fit, or it leads out of the tree; nothing is written then.
    """
    if not patch.strip():
        return
    git = Git(folder, configuration={"core.autocrlf": "false"})
    try:
        # Not as part of a repository around the folder: git would skip paths that it doesn't know, silently.
        await git.run(*HARDENED, "--git-dir=/dev/null/none", "apply", "--whitespace=nowarn", "-", stdin=patch)
    except GitFailed as error:
        raise TargetError(f"the patch doesn't fit: {error.complaint}") from error


async def apply_to_user_tree(folder: Path, patch: bytes) -> list[str]:
    """Write a patch into the user's own tree, all of it or nothing.

    Returns:
        The changed files, relative.

    Raises:
        TargetError: A hunk doesn't fit; the message names it, and nothing was written.
    """
    git = Git(folder, configuration={"core.autocrlf": "false"})
    outside = "--git-dir=/dev/null/none"
    try:
        listed = await git.run(*HARDENED, outside, "apply", "--numstat", "-z", "-", stdin=patch)
        await git.run(*HARDENED, outside, "apply", "--check", "--whitespace=nowarn", "-", stdin=patch)
        await git.run(*HARDENED, outside, "apply", "--whitespace=nowarn", "-", stdin=patch)
    except GitFailed as error:
        raise TargetError(
            f"the patch doesn't fit {folder}, nothing was written: {error.complaint}"
        ) from error
    return [line.split(b"\t", 2)[2].decode(errors="replace") for line in listed.split(b"\0") if line]


def _lines(text: bytes) -> list[bytes]:
    """Lines as git counts them: ended by newline only."""
    return [line + b"\n" for line in text.split(b"\n")[:-1]] + (
        [text.split(b"\n")[-1]] if not text.endswith(b"\n") and text else []
    )
