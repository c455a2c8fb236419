"""Which lines of a tree have changed, as git tells it.

Two trees of ours are compared, not a work tree with a commit: comparing a work tree would run the filters
that its repository configures.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qefleet.contracts.changes import Changes, LineRange
from qefleet.workspace.archive import Tree
from qefleet.workspace.git import HARDENED, Git

_DIFF = (
    "diff", "--no-index", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--text",
    "--unified=0", "--ignore-cr-at-eol", "--src-prefix=", "--dst-prefix=",
)  # fmt: skip
_HUNK = re.compile(rb"^@@ -\d+(?:,(?P<removed>\d+))? \+(?P<first>\d+)(?:,(?P<added>\d+))? @@")
_FILE = re.compile(rb"^\+\+\+ head/(?P<number>\d+)")
_LOOKED_AT = 8000
"""Bytes in which git looks for a NUL to tell binary files."""


async def find_changes(base: Tree, head: Tree, *, work_dir: Path) -> Changes:
    """The lines of `head`'s text files that `base` doesn't have.

    Args:
        base: The older tree.
        head: The newer one; line numbers are its.
        work_dir: Where to keep the files that differ meanwhile.
    """
    before, after = _texts(base), _texts(head)
    found = {
        name: [(1, content.count(b"\n") + (not content.endswith(b"\n")))]
        for name, content in after.items()
        if name not in before and content
    }
    differing = [name for name in after if name in before and after[name] != before[name]]
    if differing:
        with tempfile.TemporaryDirectory(prefix="changes-", dir=work_dir) as folder:
            await asyncio.to_thread(_lay_out, Path(folder), differing, before, after)
            # Differing files make it end with 1.
            diff = await Git(Path(folder)).run(*HARDENED, *_DIFF, "base", "head", accept=(0, 1))
        found |= {differing[number]: ranges for number, ranges in _parse(diff).items()}
    return Changes({name: found[name] for name in sorted(found)})


def _texts(tree: Tree) -> dict[str, bytes]:
    return {
        entry.path: entry.content
        for entry in tree.entries
        if entry.link is None and b"\0" not in entry.content[:_LOOKED_AT]
    }


def _lay_out(folder: Path, names: list[str], before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """By number: no name of theirs, such as `.gitattributes`, means anything to git then."""
    for side, contents in (("base", before), ("head", after)):
        (folder / side).mkdir()
        for number, name in enumerate(names):
            (folder / side / str(number)).write_bytes(contents[name])


def _parse(diff: bytes) -> dict[int, list[LineRange]]:
    """Added ranges by the file's number; files that only lost lines have none."""
    found: dict[int, list[LineRange]] = {}
    ranges: list[LineRange] = []
    skip = 0
    for line in diff.split(b"\n"):
        if skip and not line.startswith(b"\\"):  # a line of a hunk, whatever it looks like
            skip -= 1
        elif file := _FILE.match(line):
            ranges = found.setdefault(int(file["number"]), [])
        elif hunk := _HUNK.match(line):
            added = int(hunk["added"] or 1)
            skip = int(hunk["removed"] or 1) + added
            if added:
                first = int(hunk["first"])
                ranges.append((first, first + added - 1))
    return {number: ranges for number, ranges in found.items() if ranges}
