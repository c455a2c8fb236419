"""Read one commit of a git repository, straight from its objects.

Nothing is checked out: no filter, hook or attribute of the repository is applied, no submodule is followed,
and `export-ignore` doesn't hide the tests.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from qefleet.errors import InvalidInput, TargetError, TransientError
from qefleet.workspace.archive import Entry, Meter, Tree, safe_path, stays_inside
from qefleet.workspace.churn import count_commits
from qefleet.workspace.git import HARDENED, Git, GitFailed
from qefleet.workspace.source_folder import version_of_tag

_CLONE_S = 600.0
_TRANSPORTS = ("https", "http", "ssh", "file")
_REF = re.compile(r"^(?!-)(?!.*(?:\.\.|@\{|//|\.lock$))[A-Za-z0-9][A-Za-z0-9._/+@-]{0,254}$")
_COMMIT = re.compile(r"^[0-9a-f]{7,40}$")
_AWAY = re.compile(
    r"could not resolve|timed out|connection (?:refused|reset)|early eof|network is unreachable|"
    r"returned error: 5|took more than|unexpected disconnect|rpc failed|failed to connect",
    re.IGNORECASE,
)
_SUBMODULE, _LINK, _EXECUTABLE = "160000", "120000", "100755"


@dataclass(frozen=True)
class Checkout:
    """A commit's files and its full hash."""

    tree: Tree
    commit: str
    base: Tree | None = None
    """The files at the commit where it branched off, where that was asked for."""
    churn: Mapping[str, int] = field(default_factory=dict[str, int])
    """Commits that touched each file, where a base was asked for."""


async def read_git(url: str, ref: str | None, *, work_dir: Path, base: str | None = None) -> Checkout:
    """Fetch one commit and read its files.

    Args:
        url: https, http, ssh or file URL, without credentials.
        ref: Branch, tag or commit; the remote's default branch without it.
        work_dir: Where to keep the objects meanwhile.
        base: Branch, tag or commit of the same repository; the files where `ref` branched off from it are
            read too.

    Raises:
        TargetError: There is no such repository or ref, or git may not read it.
        InvalidInput: There is no such base.
        TransientError: The server can't be reached now.
    """
    parts = urlsplit(url)
    if parts.password is not None or (parts.username and parts.scheme != "ssh"):
        raise TargetError(
            "the git URL holds credentials, which would stay in the run's history: take them out and use "
            "git's credential helper, ~/.netrc or an SSH key"
        )
    if ref is not None and not _REF.match(ref):
        raise TargetError("the git ref isn't a name of a branch, a tag or a commit")
    if parts.scheme not in _TRANSPORTS:
        # Others, such as ext::, run programs.
        raise TargetError(f"a git URL starts with one of {', '.join(f'{name}://' for name in _TRANSPORTS)}")
    protocols = {"protocol.allow": "never", f"protocol.{parts.scheme}.allow": "always"}
    with tempfile.TemporaryDirectory(prefix="git-", dir=work_dir) as folder:
        git = Git(Path(folder), configuration={**protocols, "remote.origin.url": url})
        try:
            await git.run(*HARDENED, "init", "--quiet", "--bare", "--template=", ".")
            commit = await _fetch(git, ref, history=base is not None)
            scm_version = await _newest_tag(git)
            tree = await _read(git, commit, scm_version)
            branched_off = await _fetch_base(git, base, commit) if base is not None else None
            churn = await count_commits(git, commit) if base is not None else {}
            return Checkout(tree, commit, branched_off, churn)
        except GitFailed as error:
            raise await _translated(git, str(error), url, ref) from error


async def read_base(folder: Path, base: str) -> Tree:
    """The files of a folder at the commit where its HEAD branched off from `base`.

    Args:
        folder: The root of a git work tree, or a folder in one.
        base: Branch, tag or commit.

    Returns:
        A tree without entries where the folder didn't exist then.

    Raises:
        InvalidInput: The folder is in no git work tree, or there is no such commit.
    """
    git = Git(folder)
    try:
        inside = os.fsdecode((await git.run(*HARDENED, "rev-parse", "--show-prefix")).removesuffix(b"\n"))
    except GitFailed as error:
        raise InvalidInput("base", f"the target is in no git repository: {error}") from error
    return await _read(git, await merge_base(git, base, "HEAD"), None, inside=inside)


async def merge_base(git: Git, base: str, head: str) -> str:
    """The commit where `head` branched off from `base`.

    Raises:
        InvalidInput: There is no such base, or no common commit; the message says how to fetch it.
    """
    try:
        named = await git.run(
            *HARDENED, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}"
        )
    except GitFailed as error:
        raise InvalidInput(
            "base",
            "the repository has no such branch, tag or commit; a CI's clone may lack it: "
            "fetch it first (in actions/checkout `fetch-depth: 0`, in GitLab `GIT_DEPTH: 0`)",
        ) from error
    try:
        found = await git.run(*HARDENED, "merge-base", named.decode().strip(), head)
    except GitFailed as error:
        raise InvalidInput(
            "base",
            "it has no commit in common with what is looked at; a shallow clone may lack it: "
            "fetch the history (in actions/checkout `fetch-depth: 0`, in GitLab `GIT_DEPTH: 0`)",
        ) from error
    return found.decode().strip()


async def _fetch_base(git: Git, base: str, head: str) -> Tree:
    if not _REF.match(base):
        raise InvalidInput("base", "isn't a name of a branch, a tag or a commit")
    try:
        commit = await _fetch(git, base, into="refs/qe/base", history=True)
    except GitFailed as error:
        if _AWAY.search(str(error)):
            raise TransientError(f"the git server can't be reached now: {error}") from error
        raise InvalidInput("base", "the target's repository has no such branch, tag or commit") from error
    return await _read(git, await merge_base(git, commit, head), None, inside="")


async def _fetch(git: Git, ref: str | None, *, into: str = "refs/qe/target", history: bool = False) -> str:
    options = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
    wanted = f"+{ref or 'HEAD'}:{into}"
    depth = () if history else ("--depth=1",)
    try:
        await git.run(*HARDENED, "fetch", *options, *depth, "origin", wanted, timeout_s=_CLONE_S)
    except GitFailed:
        if ref is None or not _COMMIT.match(ref):
            raise
        # A short hash, or a server that only hands out what a branch or tag points to.
        every = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        await git.run(*HARDENED, "fetch", *options, "origin", *every, timeout_s=_CLONE_S)
        await git.run(*HARDENED, "update-ref", into, f"{ref}^{{commit}}")
    return (await git.run(*HARDENED, "rev-parse", f"{into}^{{commit}}")).decode().strip()


async def _newest_tag(git: Git) -> str | None:
    """The highest version among the remote's tags: a shallow fetch can't describe its commit."""
    listed = await git.run(*HARDENED, "ls-remote", "--quiet", "--tags", "--refs", "origin")
    names = (line.rpartition("refs/tags/")[2] for line in listed.decode(errors="replace").splitlines())
    versions = [
        version for version in map(version_of_tag, names) if version and version.replace(".", "").isdigit()
    ]
    return max(versions, key=lambda version: [int(part) for part in version.split(".")], default=None)


async def _read(git: Git, commit: str, scm_version: str | None, *, inside: str | None = None) -> Tree:
    """A commit's files; with `inside`, those below that folder, and none is no error."""
    below = ("--", inside) if inside else ()
    listed = await git.run(*HARDENED, "ls-tree", "-r", "-z", "--long", "--full-tree", commit, *below)
    meter = Meter()
    wanted: list[tuple[str, str, str]] = []
    for line in listed.split(b"\0"):
        if not line:
            continue
        about, _, raw_name = line.partition(b"\t")
        mode, _, identity, size = about.decode().split()
        name = os.fsdecode(raw_name).removeprefix(inside or "")
        if mode == _SUBMODULE:
            meter.notes.append(f"left out, a git submodule: {name!r}")
        elif not safe_path(name):
            meter.notes.append(f"left out, a name that no archive should have: {name!r}")
        else:
            meter.add(int(size))
            wanted.append((name, mode, identity))
    if not wanted and inside is None:
        raise TargetError("the commit has no files")
    asked = "".join(f"{identity}\n" for _, _, identity in wanted).encode()
    blobs = await git.run(*HARDENED, "cat-file", "--batch", stdin=asked)
    entries = await asyncio.to_thread(_entries, wanted, blobs, meter)
    return Tree(tuple(entries), tuple(meter.notes[:20]), scm_version)


def _entries(wanted: Sequence[tuple[str, str, str]], blobs: bytes, meter: Meter) -> list[Entry]:
    entries: list[Entry] = []
    position = 0
    for name, mode, _ in wanted:
        line_end = blobs.index(b"\n", position)
        size = int(blobs[position:line_end].split()[2])
        content = blobs[line_end + 1 : line_end + 1 + size]
        position = line_end + 1 + size + 1
        if mode != _LINK:
            entries.append(Entry(name, content=content, executable=mode == _EXECUTABLE))
        elif stays_inside(name, link := os.fsdecode(content)):
            entries.append(Entry(name, link=link))
        else:
            meter.notes.append(f"left out, a link that leads out of the tree: {name!r}")
    return entries


async def _translated(git: Git, message: str, url: str, ref: str | None) -> TargetError | TransientError:
    """What git's complaint means for the user."""
    if _AWAY.search(message):
        return TransientError(f"the git server can't be reached now: {message}")
    if ref is not None or "couldn't find remote ref" in message.lower():
        try:
            listed = await git.run(*HARDENED, "ls-remote", "--quiet", "--heads", "origin")
        except GitFailed:
            pass
        else:
            heads = [
                line.rpartition("refs/heads/")[2] for line in listed.decode(errors="replace").splitlines()
            ]
            if not heads:
                return TargetError(f"the repository {url} has no commits")
            some = ", ".join(heads[:5]) + (", …" if len(heads) > len(heads[:5]) else "")
            return TargetError(f"the repository {url} has no ref {ref!r}; its branches: {some}")
    return TargetError(
        f"git can't read {url}: {message}. Check the address; for a private repository set up git's "
        "credential helper or an SSH key for the user that runs the worker"
    )
