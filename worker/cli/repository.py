"""The git repository of a target folder: its name, its commit, and whether nothing else is there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qefleet.errors import InvalidInput, TargetError
from qefleet.workspace.git import HARDENED, Git, GitFailed
from qefleet.workspace.source_folder import read_folder
from qefleet.workspace.source_git import merge_base, read_base

if TYPE_CHECKING:
    from qefleet.contracts.flows import FlowInput
    from qefleet.contracts.runs import RunInput

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What a folder is a part of."""

    name: str
    """For people: the last part of its remote's address, else its folder's name."""
    commit: str
    inside: str
    """Where in it the folder lies, such as `backend/`; empty for its root."""


async def find_repository(folder: Path) -> Repository | None:
    """The repository that a folder lies in; None where there is none, or no commit yet."""
    git = Git(folder)
    try:
        named = await git.run(*HARDENED, "rev-parse", "--show-toplevel", "--show-prefix", "HEAD")
        root, inside, commit = os.fsdecode(named).splitlines()
        remote = await git.run(*HARDENED, "config", "--get", "remote.origin.url", accept=(0, 1))
    except (GitFailed, ValueError, OSError):
        return None
    return Repository(name=_name(os.fsdecode(remote).strip() or root), commit=commit, inside=inside)


async def same_run_id(pattern: str, run_input: RunInput | FlowInput, *, model: str) -> str | None:
    """A workflow id that the same pattern gets again for the same commit and the same options.

    Args:
        pattern: As it is typed.
        run_input: Checked.
        model: The model that will be asked.

    Returns:
        None where the target is no commit: a package, a branch, or a folder with uncommitted changes.
    """
    target = run_input.target
    if target is None:
        return None
    if target.kind == "git" and _COMMIT.fullmatch(target.ref or ""):
        found = Repository(name=_name(target.location), commit=target.ref or "", inside="")
    elif target.kind == "path":
        folder = Path(target.location)
        repository = await find_repository(folder)
        if repository is None or not await _is_clean(folder):
            return None
        found = repository
    else:
        return None
    options = run_input.model_dump(mode="json", exclude_unset=True, exclude={"target"})
    if run_input.base and target.kind == "path":
        options["base"] = await _base(Path(target.location), run_input.base)
    about = json.dumps([options, found.inside, model], sort_keys=True)
    digest = hashlib.sha256(about.encode()).hexdigest()[:8]
    return f"qe-{found.name}-{found.commit[:12]}-{pattern}-{digest}"


async def _is_clean(folder: Path) -> bool:
    """Whether its files are those of the commit.

    Not told by `git status`, which would run the filters that the repository configures.
    """
    try:
        there, committed = await read_folder(folder), await read_base(folder, "HEAD")
    except (TargetError, InvalidInput, GitFailed):
        return False
    return {e.path: e for e in there.entries} == {e.path: e for e in committed.entries}


async def _base(folder: Path, ref: str) -> str:
    """The commit that is compared with: a base that has moved on meanwhile makes no other run."""
    try:
        return await merge_base(Git(folder), ref, "HEAD")
    except InvalidInput:
        return ref  # the worker refuses it with what to do


def _name(location: str) -> str:
    last = re.split(r"[/:\\]", location.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:40] or "repository"
