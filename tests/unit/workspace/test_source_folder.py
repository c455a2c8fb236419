from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from qefleet.errors import TargetError
from qefleet.workspace.archive import Tree
from qefleet.workspace.source_folder import project_name, read_folder, version_of_tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/a.py").write_text("A = 1\n")
    (tmp_path / "pkg/b.py").write_text("B = 1\n")
    return tmp_path


def names(tree: Tree) -> list[str]:
    return sorted(entry.path for entry in tree.entries)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


async def test_a_plain_folder_is_read_without_caches(folder: Path) -> None:
    """Without git, everything counts but environments, caches and version control."""
    for name in (".venv/lib", "__pycache__", "node_modules/x", "pkg.egg-info", ".hg"):
        (folder / name).mkdir(parents=True)
        (folder / name / "f").write_text("")
    (folder / "pkg/a.pyc").write_text("")
    (folder / "empty").mkdir()

    tree = await read_folder(folder)

    assert (names(tree), tree.notes) == (["pkg/a.py", "pkg/b.py"], ())


async def test_a_checkout_is_read_as_git_sees_it(folder: Path) -> None:
    """Tracked and new files count, ignored and deleted ones don't; the last tag tells the version."""
    git(folder, "init")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    git(folder, "tag", "v1.4.0")
    (folder / "x.log").write_text("")
    (folder / "new.py").write_text("")
    (folder / "pkg/b.py").unlink()

    tree = await read_folder(folder)

    assert names(tree) == [".gitignore", "new.py", "pkg/a.py"]
    assert tree.scm_version == "1.4.0"


async def test_a_repository_without_commits_is_read(folder: Path) -> None:
    """What was never committed is there as well."""
    git(folder, "init")

    assert names(await read_folder(folder)) == ["pkg/a.py", "pkg/b.py"]


async def test_a_folder_ignored_by_its_repository_is_read(folder: Path) -> None:
    """A folder in an ignored place of a checkout counts as a plain one."""
    git(folder, "init")
    (folder / ".gitignore").write_text("pkg/\n")

    assert names(await read_folder(folder / "pkg")) == ["a.py", "b.py"]


async def test_programs_named_by_a_hostile_repository_are_not_run(folder: Path) -> None:
    """Monitors, hooks and pagers in the repository's settings stay unused."""
    git(folder, "init")
    trap = folder / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {folder}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "core.editor"):
        git(folder, "config", key, str(trap))
    git(folder, "config", "core.hooksPath", str(folder))

    await read_folder(folder)

    assert not (folder / "sprung").exists()


async def test_what_is_no_file_is_left_out_with_a_note(folder: Path) -> None:
    """Pipes, sockets and links that lead out are named, and nothing hangs on them."""
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("../x")
    (folder / "in").symlink_to("pkg/a.py")
    (folder / "all").symlink_to("pkg")

    tree = await read_folder(folder)

    assert names(tree) == ["all", "in", "pkg/a.py", "pkg/b.py"]
    assert sorted(tree.notes) == [
        "left out, a link that leads out of the tree: 'out'",
        "left out, a link that leads out of the tree: 'up'",
        "left out, neither file nor link: 'pipe'",
        "left out, neither file nor link: 's'",
    ]


async def test_odd_names_are_kept(folder: Path) -> None:
    """A newline or bytes that aren't UTF-8 in a name do no harm, with git and without."""
    odd = os.fsdecode(b"new\nline\xff.txt")
    (folder / odd).write_text("x")
    plain = names(await read_folder(folder))
    git(folder, "init")

    assert plain == names(await read_folder(folder)) == sorted([odd, "pkg/a.py", "pkg/b.py"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_an_unreadable_file_is_left_out_with_a_note(folder: Path) -> None:
    """One file without permission doesn't end the reading."""
    (folder / "secret").write_text("")
    (folder / "secret").chmod(0)

    tree = await read_folder(folder)

    assert tree.notes == ("left out, Permission denied: 'secret'",)


async def test_a_huge_file_is_refused_unread(folder: Path) -> None:
    """A sparse file of a terabyte is refused by its size."""
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(TargetError, match="more than 500 MB"):
        await read_folder(folder)


async def test_unusable_folders_say_what_is_wrong(folder: Path) -> None:
    """Missing, empty, or a file: each has its own message."""
    (folder / "empty").mkdir()

    with pytest.raises(TargetError, match="there is no folder"):
        await read_folder(folder / "missing")
    with pytest.raises(TargetError, match="has no files"):
        await read_folder(folder / "empty")
    with pytest.raises(TargetError, match="isn't a folder"):
        await read_folder(folder / "pkg/a.py")


async def test_many_notes_are_summed_up(folder: Path) -> None:
    """A thousand broken links give twenty notes and a count."""
    for number in range(30):
        (folder / f"l{number}").symlink_to("/nowhere")

    tree = await read_folder(folder)

    assert (len(tree.notes), tree.notes[-1]) == (21, "and 10 more of this kind")


def test_the_project_names_itself(folder: Path) -> None:
    """The name in pyproject.toml goes before the folder's, unless it is no name."""
    before = project_name(folder)
    (folder / "pyproject.toml").write_text("[project]\nname = 'real-name'\n")
    named = project_name(folder)
    (folder / "pyproject.toml").write_text("[project]\nname = '../../x'\n")

    assert (before, named, project_name(folder)) == (folder.name, "real-name", folder.name)


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v1.2.3", "1.2.3"),
        ("1.2", "1.2"),
        ("pkg-2.0.1", "2.0.1"),
        ("release/3.1", "3.1"),
        ("v1.0rc1", "1.0rc1"),
        ("nightly", None),
        ("v7", None),
    ],
)
def test_tags_tell_versions(tag: str, version: str | None) -> None:
    """The usual forms of tags are understood, others tell nothing."""
    assert version_of_tag(tag) == version
