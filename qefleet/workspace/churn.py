"""How many commits touched each file: files that change often are where changes go wrong."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from qefleet.workspace.git import HARDENED, Git, GitFailed

COMMITS = 1000
"""The latest that are looked at; a shallow clone has fewer."""

_LOG = (
    "log", f"--max-count={COMMITS}", "--no-merges", "--no-renames", "--no-ext-diff", "--no-textconv",
    "--no-show-signature", "--name-only", "-z", "--format=",
)  # fmt: skip


async def count_commits(git: Git, commit: str, *, inside: str = "") -> dict[str, int]:
    """Commits that touched each file, up to and with this one, merges left out.

    Args:
        git: Of the repository.
        commit: The last of them.
        inside: Folder of the repository that is looked at, with a slash at its end.
    """
    listed = await git.run(*HARDENED, *_LOG, commit, "--", *([f":(top){inside}"] if inside else []))
    names = (os.fsdecode(name.strip(b"\n")) for name in listed.split(b"\0"))
    return dict(sorted(Counter(name.removeprefix(inside) for name in names if name).items()))


async def read_churn(folder: Path) -> dict[str, int]:
    """Commits that touched each file of a folder in a git work tree; empty where there is no history."""
    git = Git(folder)
    try:
        inside = os.fsdecode((await git.run(*HARDENED, "rev-parse", "--show-prefix")).removesuffix(b"\n"))
        return await count_commits(git, "HEAD", inside=inside)
    except GitFailed:
        return {}
