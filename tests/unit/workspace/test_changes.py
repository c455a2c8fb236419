"""Which lines have changed since a base, for folders and for git repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qefleet.contracts.changes import Changes
from qefleet.errors import InvalidInput
from qefleet.workspace.archive import Entry, Tree
from qefleet.workspace.changes import find_changes
from qefleet.workspace.churn import read_churn
from qefleet.workspace.source_folder import read_folder
from qefleet.workspace.source_git import read_base, read_git


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, message: str = "x") -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`main` with one commit, and a branch `work` off it that is checked out."""
    folder = tmp_path / "repository"
    (folder / "pkg").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "pkg" / "a.py").write_text("".join(f"x{n} = {n}\n" for n in range(1, 11)))
    (folder / "pkg" / "gone.py").write_text("y = 1\n")
    commit(folder)
    git(folder, "checkout", "--quiet", "-b", "work")
    return folder


def _tree(**files: bytes) -> Tree:
    return Tree(tuple(Entry(name, content=content) for name, content in files.items()))


async def test_changed_added_and_removed_lines(tmp_path: Path) -> None:
    """Changed and new lines are named by their place in the newer text; removed ones by nothing."""
    base = _tree(a=b"1\n2\n3\n4\n5\n", b=b"1\n2\n", c=b"same\n", d=b"x\n")
    head = _tree(a=b"1\nTWO\n3\n5\n6\n7", b=b"2\n", c=b"same\n", new=b"1\n2\n", empty=b"", binary=b"\0")

    found = await find_changes(base, head, work_dir=tmp_path)

    assert found.root == {"a": [(2, 2), (5, 6)], "new": [(1, 2)]}


async def test_line_endings_are_no_change(tmp_path: Path) -> None:
    """A checkout on Windows has other line endings than the commit."""
    found = await find_changes(_tree(a=b"1\n2\n"), _tree(a=b"1\r\nTWO\r\n"), work_dir=tmp_path)

    assert found.root == {"a": [(2, 2)]}


async def test_lines_that_look_like_a_diff_mislead_nobody(tmp_path: Path) -> None:
    """Content is counted, not parsed."""
    base = _tree(a=b"-- base/0\n1\n", b=b"1\n")
    head = _tree(a=b"++ head/7\n@@ -1 +900 @@\n1\n++ head/1", b=b"2\n")

    found = await find_changes(base, head, work_dir=tmp_path)

    assert found.root == {"a": [(1, 2), (4, 4)], "b": [(1, 1)]}


async def test_folder_is_compared_with_where_it_branched_off(repository: Path, tmp_path: Path) -> None:
    """Commits of the branch and uncommitted work count, what came to the base meanwhile doesn't."""
    (repository / "pkg" / "a.py").write_text("".join(f"x{n} = {n if n != 3 else -3}\n" for n in range(1, 11)))
    commit(repository)
    git(repository, "checkout", "--quiet", "main")
    (repository / "pkg" / "other.py").write_text("z = 1\n")
    commit(repository)
    git(repository, "checkout", "--quiet", "work")
    with (repository / "pkg" / "a.py").open("a") as file:
        file.write("uncommitted = 1\n")
    (repository / "pkg" / "untracked.py").write_text("u = 1\nv = 2\n")
    (repository / "pkg" / "gone.py").unlink()

    base = await read_base(repository, "main")
    found = await find_changes(base, await read_folder(repository), work_dir=tmp_path)

    assert found.root == {"pkg/a.py": [(3, 3), (11, 11)], "pkg/untracked.py": [(1, 2)]}


async def test_folder_inside_a_repository_has_its_own_paths(repository: Path, tmp_path: Path) -> None:
    """Files are named relative to the target, and others of the repository don't count."""
    (repository / "pkg" / "a.py").write_text("x = 1\n")
    (repository / "top.py").write_text("x = 1\n")

    base = await read_base(repository / "pkg", "HEAD")
    found = await find_changes(base, await read_folder(repository / "pkg"), work_dir=tmp_path)

    assert sorted(entry.path for entry in base.entries) == ["a.py", "gone.py"]
    assert found.root == {"a.py": [(1, 1)]}


async def test_git_target_is_compared_with_where_its_ref_branched_off(
    repository: Path, tmp_path: Path
) -> None:
    """Both are refs of the remote."""
    (repository / "pkg" / "a.py").write_text("x1 = 1\nnew = 1\n")
    head = commit(repository)

    found = await read_git(f"file://{repository}", "work", work_dir=tmp_path, base="main")

    assert found.commit == head
    assert found.base is not None
    changes = await find_changes(found.base, found.tree, work_dir=tmp_path)
    assert changes.root == {"pkg/a.py": [(2, 2)]}


async def test_commits_that_touched_each_file_are_counted(repository: Path, tmp_path: Path) -> None:
    """Of a folder and of a ref, by their own paths; uncommitted work is no commit."""
    for number in range(3):
        (repository / "pkg" / "a.py").write_text(f"x = {number}\n")
        commit(repository)
    (repository / "pkg" / "gone.py").write_text("later = 1\n")

    whole, below = await read_churn(repository), await read_churn(repository / "pkg")
    found = await read_git(f"file://{repository}", "work", work_dir=tmp_path, base="main")

    touched = git(repository, "log", "--format=%H", "--", "pkg/a.py").split()
    assert len(touched) >= 4
    assert (whole["pkg/a.py"], whole["pkg/gone.py"]) == (len(touched), 1)
    assert below == {"a.py": len(touched), "gone.py": 1}
    assert found.churn == whole
    assert await read_churn(tmp_path) == {}


@pytest.mark.parametrize("base", ["no-such-branch", "--help", "HEAD:pkg/a.py", "v1..v2"])
async def test_base_that_is_no_commit_is_refused(repository: Path, tmp_path: Path, base: str) -> None:
    """The error names the field and what to do."""
    with pytest.raises(InvalidInput, match=r"^base: "):
        await read_base(repository, base)
    with pytest.raises(InvalidInput, match=r"^base: "):
        await read_git(f"file://{repository}", "work", work_dir=tmp_path, base=base)


async def test_base_without_a_repository_is_refused(tmp_path: Path) -> None:
    """A plain folder has nothing to compare with."""
    with pytest.raises(InvalidInput, match="base: the target is in no git repository"):
        await read_base(tmp_path, "main")


async def test_filters_of_the_repository_are_not_run(repository: Path, tmp_path: Path) -> None:
    """`git diff` of a work tree would run what `.git/config` names."""
    canary = tmp_path / "canary"
    git(repository, "config", "filter.evil.clean", f"touch {canary}")
    git(repository, "config", "diff.evil.textconv", f"touch {canary}")
    (repository / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    (repository / "pkg" / "a.py").write_text("x = 1\n")

    base = await read_base(repository, "main")
    await find_changes(base, await read_folder(repository), work_dir=tmp_path)

    assert not canary.exists()


async def test_ranges_are_those_of_git(repository: Path, tmp_path: Path) -> None:
    """As `git diff` shows them to a reviewer."""
    text = "".join(f"x{n} = {n}\n" for n in (1, 2, 99, 4, 5, 7, 8, 8, 9, 10, 11))
    (repository / "pkg" / "a.py").write_text(text)

    base = await read_base(repository, "main")
    found = await find_changes(base, await read_folder(repository), work_dir=tmp_path)
    shown = git(repository, "diff", "--unified=0", "main")

    hunks = [line.split(" ")[2] for line in shown.splitlines() if line.startswith("@@")]
    ranges = [(int(first), int(first) + int(count or 1) - 1) for first, _, count in map(_split, hunks)]
    assert found.root["pkg/a.py"] == [(first, last) for first, last in ranges if last >= first]


def _split(hunk: str) -> tuple[str, str, str]:
    return hunk.removeprefix("+").partition(",")


def test_changes_are_asked_by_line_and_range() -> None:
    """What the tools ask."""
    changes = Changes({"a.py": [(3, 5), (9, 9)]})

    assert changes.lines("a.py") == {3, 4, 5, 9}
    assert [changes.touch("a.py", *asked) for asked in ((1, 2), (1, 3), (6, 8), (9, 12))] == [
        False,
        True,
        False,
        True,
    ]
    assert not changes.touch("b.py", 1, 9)
