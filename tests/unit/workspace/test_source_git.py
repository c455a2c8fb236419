from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qefleet.errors import TargetError, TransientError
from qefleet.workspace.source_git import read_git


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    git(folder, "init")
    (folder / "module.py").write_text("VALUE = 1\n")
    (folder / "tests").mkdir()
    (folder / "tests/test_it.py").write_text("def test_it(): pass\n")
    (folder / ".gitattributes").write_text("tests export-ignore\n*.py filter=evil text eol=crlf\n")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "in").symlink_to("module.py")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    git(folder, "tag", "v1.2.0")
    (folder / "module.py").write_text("VALUE = 2\n")
    git(folder, "commit", "-am", "second")
    git(folder, "branch", "side")
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


async def test_the_default_branch_is_read_from_its_objects(remote: Path, work: Path) -> None:
    """Files come as committed: no filter, no line ends, no export-ignore; links out are named."""
    found = await read_git(f"file://{remote}", None, work_dir=work)

    contents = {entry.path: entry.link or entry.content for entry in found.tree.entries}
    assert contents == {
        ".gitattributes": b"tests export-ignore\n*.py filter=evil text eol=crlf\n",
        "in": "module.py",
        "module.py": b"VALUE = 2\n",
        "tests/test_it.py": b"def test_it(): pass\n",
    }
    assert found.commit == git(remote, "rev-parse", "HEAD")
    assert found.tree.notes == ("left out, a link that leads out of the tree: 'out'",)
    assert found.tree.scm_version == "1.2.0"
    assert not any(work.iterdir())  # noqa: ASYNC240  nobody waits here


@pytest.mark.parametrize("ref", ["v1.2.0", "full", "short"])
async def test_tags_and_commits_are_read(remote: Path, work: Path, ref: str) -> None:
    """A tag, a full hash and a short hash of an older commit lead to its files."""
    first = git(remote, "rev-parse", "v1.2.0")
    wanted = {"full": first, "short": first[:9]}.get(ref, ref)

    found = await read_git(f"file://{remote}", wanted, work_dir=work)

    assert found.commit == first
    assert {entry.path: entry.content for entry in found.tree.entries}["module.py"] == b"VALUE = 1\n"


async def test_a_missing_ref_is_answered_with_the_branches(remote: Path, work: Path) -> None:
    """The message names the ref and what there is instead."""
    with pytest.raises(TargetError, match="no ref 'nowhere'; its branches: main, side"):
        await read_git(f"file://{remote}", "nowhere", work_dir=work)


async def test_a_repository_without_commits_says_so(tmp_path: Path, work: Path) -> None:
    """There is nothing to fetch from an empty repository."""
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init")

    with pytest.raises(TargetError, match="has no commits"):
        await read_git(f"file://{tmp_path}/empty", None, work_dir=work)


async def test_no_repository_says_what_to_check(tmp_path: Path, work: Path) -> None:
    """An address without a repository is the user's to mend."""
    with pytest.raises(TargetError, match="Check the address"):
        await read_git(f"file://{tmp_path}/nothing", None, work_dir=work)


async def test_a_server_that_is_away_is_worth_another_try(work: Path) -> None:
    """A refused connection is not the user's fault."""
    with pytest.raises(TransientError):
        await read_git("http://127.0.0.1:9/x.git", None, work_dir=work)


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch x", "a..b", "x@{1}", "a b", "refs//x", "x.lock", "$(id)"]
)
async def test_refs_that_are_no_names_are_refused(remote: Path, work: Path, ref: str) -> None:
    """What git could read as an option or an expression never reaches it."""
    with pytest.raises(TargetError, match="isn't a name"):
        await read_git(f"file://{remote}", ref, work_dir=work)


async def test_credentials_in_the_address_are_refused_unechoed(work: Path) -> None:
    """A password in a URL would stay in the run's history."""
    with pytest.raises(TargetError) as refused:
        await read_git("https://user:hunter2@example.org/x.git", None, work_dir=work)

    assert "hunter2" not in str(refused.value)


async def test_other_transports_are_refused(work: Path, tmp_path: Path) -> None:
    """`ext::`, which runs programs, can't be reached."""
    with pytest.raises(TargetError, match="starts with one of"):
        await read_git(f"ext::sh -c touch% {tmp_path}/sprung", None, work_dir=work)

    assert not (tmp_path / "sprung").exists()
