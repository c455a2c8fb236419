from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qefleet.errors import TargetError
from qefleet.workspace.git import Git
from qefleet.workspace.patches import (
    added_files,
    apply_patch,
    apply_to_user_tree,
    combine_patches,
    make_patch,
)

TEXTS = st.text(st.sampled_from("ab \t\n\r\x0c\u2028é"), max_size=30)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "a.py").write_text("one\ntwo\nthree\n")
    return folder


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TEXTS, after=TEXTS, new=TEXTS)
async def test_a_patch_makes_exactly_the_texts_it_was_made_for(
    tmp_path: Path, before: str, after: str, new: str
) -> None:
    """Any ends of lines, missing last newlines and odd white space survive the way through git."""
    (tmp_path / "old.py").write_text(before, newline="")
    (tmp_path / "dir/new file.py").unlink(missing_ok=True)
    wanted = {"old.py": after, "dir/new file.py": new}

    await apply_patch(tmp_path, make_patch(tmp_path, wanted))

    assert {name: (tmp_path / name).read_bytes().decode() for name in wanted} == wanted


async def test_patches_apply_inside_a_repository_too(base: Path) -> None:
    """A checkout around the tree, which git would otherwise look at, plays no part."""
    await Git(base.parent).run("init", "--quiet")

    await apply_patch(base, make_patch(base, {"a.py": "changed\n"}))

    assert (base / "a.py").read_text() == "changed\n"


def test_nothing_to_change_is_an_empty_patch(base: Path) -> None:
    """The same text gives no hunk."""
    assert make_patch(base, {"a.py": "one\ntwo\nthree\n"}) == b""


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", ".git/hooks/pre-commit", 'q"uote', "new\nline", ""]
)
def test_a_patch_cannot_be_made_for_a_place_outside(base: Path, name: str) -> None:
    """Names that lead out, or that a diff can't hold, are refused."""
    with pytest.raises(ValueError, match="no path for a patch"):
        make_patch(base, {name: "x"})


@pytest.mark.parametrize("name", ["../x", "l/x", ".git/config"])
async def test_a_patch_that_leads_out_is_refused(base: Path, name: str) -> None:
    """Parents, links and git's own folder can't be written by a patch."""
    (base.parent / "elsewhere").mkdir()
    (base / "l").symlink_to("../elsewhere")
    new_file = f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n"
    new_file += "@@ -0,0 +1 @@\n+x\n"

    with pytest.raises(TargetError, match="doesn't fit"):
        await apply_patch(base, new_file.encode())
    with pytest.raises(TargetError, match="No valid patches in input"):
        await apply_patch(base, b"no patch at all")

    assert sorted(path.name for path in base.parent.rglob("*")) == ["a.py", "base", "elsewhere", "l"]


async def test_the_users_tree_is_changed_as_a_whole(base: Path) -> None:
    """The changed files are told."""
    patch = make_patch(base, {"a.py": "one\n", "tests/test_qe.py": "def test(): pass\n"})

    assert await apply_to_user_tree(base, patch) == ["a.py", "tests/test_qe.py"]
    assert (base / "tests/test_qe.py").read_text() == "def test(): pass\n"


async def test_a_hunk_that_does_not_fit_leaves_the_users_tree_alone(base: Path) -> None:
    """One bad hunk is named, and the good ones aren't written either."""
    patch = make_patch(base, {"a.py": "one\ntwo\nTHREE\n", "new.py": "x\n"})
    (base / "a.py").write_text("something else\n")

    with pytest.raises(TargetError, match=r"nothing was written.*a\.py:1"):
        await apply_to_user_tree(base, patch)

    assert not (base / "new.py").exists()


async def test_agents_side_by_side_may_test_the_same_module(base: Path) -> None:
    """The same file is added once; another of the same name gets a name of its own, and all of it applies."""
    marker = {"tests/__init__.py": ""}
    first = make_patch(base, {"tests/test_qe_a.py": "one = 1\n", **marker})
    same = make_patch(base, {"tests/test_qe_a.py": "one = 1\n", **marker})
    other = make_patch(base, {"tests/test_qe_a.py": "two = 2\n", **marker})
    third = make_patch(base, {"tests/test_qe_a.py": "three = 3\n"})

    combined = combine_patches([first, same, other, third])
    await apply_patch(base, combined)

    found = {path.name: path.read_text() for path in (base / "tests").iterdir()}
    assert found == {
        "__init__.py": "",
        "test_qe_a.py": "one = 1\n",
        "test_qe2_a.py": "two = 2\n",
        "test_qe3_a.py": "three = 3\n",
    }
    assert added_files(combined) == [
        "tests/__init__.py", "tests/test_qe_a.py", "tests/test_qe2_a.py", "tests/test_qe3_a.py",
    ]  # fmt: skip


async def test_a_folder_of_ours_moves_as_a_whole(base: Path) -> None:
    """Where every test file has one name, the folder around it is what differs."""
    first = make_patch(base, {"tests/qe_a/tests.py": "one = 1\n", "tests/qe_a/__init__.py": ""})
    other = make_patch(base, {"tests/qe_a/tests.py": "two = 2\n", "tests/qe_a/z.py": "x = 1\n"})

    await apply_patch(base, combine_patches([first, other]))

    found = sorted(str(path.relative_to(base)) for path in (base / "tests").rglob("*.py"))
    assert found == [
        "tests/qe2_a/tests.py", "tests/qe2_a/z.py", "tests/qe_a/__init__.py", "tests/qe_a/tests.py",
    ]  # fmt: skip


async def test_what_one_agent_adds_the_next_one_may_change(base: Path) -> None:
    """A file added by one patch, changed by the next: applied as one patch, as each for itself."""
    first = make_patch(base, {"new.py": "one\n"})
    other = base.parent / "other"
    other.mkdir()
    (other / "new.py").write_text("one\n")
    second = make_patch(other, {"new.py": "one\ntwo\n"})

    await apply_patch(base, combine_patches([first, second]))

    assert (base / "new.py").read_text() == "one\ntwo\n"


def test_files_that_are_not_ours_are_not_renamed(base: Path) -> None:
    """Two agents that add one file differently are told so, by its name."""
    patches = [make_patch(base, {"docs/b.md": text}) for text in ("one\n", "two\n")]

    with pytest.raises(TargetError, match=r"two agents each add docs/b\.md, and differently"):
        combine_patches(patches)
