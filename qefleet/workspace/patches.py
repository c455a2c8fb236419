"""Unified diffs: what agents propose, laid over a snapshot or, when asked, over the user's tree."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Mapping
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
