from __future__ import annotations

import gzip
import io
import os
import posixpath
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qefleet.errors import TargetError
from qefleet.workspace import archive
from qefleet.workspace.archive import Entry, Meter, Tree, pack, safe_path, stays_inside, unpack

ODD = os.fsdecode(b"odd/new\nline-\xff.txt")


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    """Contents, links, the executable bit, odd names, notes and version come back."""
    entries = (
        Entry("a/b.py", b"x = 1\n"),
        Entry("run", b"#!/bin/sh\n", executable=True),
        Entry("a/link", link="b.py"),
        Entry(ODD, b"\x00\xff"),
    )

    tree = unpack(pack(Tree(entries, ("a note",), "1.2.3")), tmp_path / "tree")

    assert (tree.notes, tree.scm_version) == (("a note",), "1.2.3")
    root = tmp_path / "tree"
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if not path.is_dir()}
    assert set(found) == {entry.path for entry in entries}
    assert found["a/b.py"].read_bytes() == b"x = 1\n"
    assert found["a/link"].readlink() == Path("b.py")
    assert found[ODD].read_bytes() == b"\x00\xff"
    modes = {name: stat.S_IMODE(found[name].lstat().st_mode) for name in ("a/b.py", "run")}
    assert modes == {"a/b.py": 0o666, "run": 0o777}


def test_the_same_files_give_the_same_bytes() -> None:
    """The order in which files were read plays no part."""
    entries = [Entry(f"file{number}", bytes([number])) for number in range(20)]

    assert pack(Tree(entries)) == pack(Tree(entries[::-1]))


def test_notes_and_version_are_part_of_the_digest() -> None:
    """A tree that was read otherwise is another snapshot."""
    entries = (Entry("a", b""),)

    assert len({pack(Tree(entries)), pack(Tree(entries, ("n",))), pack(Tree(entries, (), "1.0"))}) == 3


@pytest.mark.parametrize(
    ("name", "link", "kind"),
    [
        ("../out", "", tarfile.REGTYPE),
        ("/abs", "", tarfile.REGTYPE),
        ("a/../../b", "", tarfile.REGTYPE),
        (".git/config", "", tarfile.REGTYPE),
        ("link", "/etc/passwd", tarfile.SYMTYPE),
        ("link", "../x", tarfile.SYMTYPE),
        ("hard", "/etc/passwd", tarfile.LNKTYPE),
        ("pipe", "", tarfile.FIFOTYPE),
        ("device", "", tarfile.CHRTYPE),
    ],
)
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str, link: str, kind: bytes) -> None:
    """An archive that this module wouldn't write is not unpacked."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link

    with pytest.raises(TargetError):
        unpack(_tar([info]), tmp_path / "tree")

    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A link to a folder of the tree can't be used as a folder by a later entry."""
    link, inner = tarfile.TarInfo("link"), tarfile.TarInfo("link/file")
    link.type, link.linkname = tarfile.SYMTYPE, "folder"

    with pytest.raises(TargetError, match="is a link"):
        unpack(_tar([tarfile.TarInfo("folder/x"), link, inner]), tmp_path / "tree")


@given(
    path=st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1).map("/".join),
    link=st.text("./ab", max_size=8),
)
def test_a_link_that_stays_inside_resolves_inside(path: str, link: str) -> None:
    """What `stays_inside` accepts, resolved by the rules of paths, is below the root."""
    if safe_path(path) and stays_inside(path, link):
        resolved = posixpath.normpath(posixpath.join("/root/tree", posixpath.dirname(path), link))

        assert resolved == "/root/tree" or resolved.startswith("/root/tree/")


def test_too_much_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting stops at the caps on files and bytes, and says what to do."""
    monkeypatch.setattr(archive, "FILES_MAX", 3)
    meter = Meter()
    for _ in range(3):
        meter.add(1)

    with pytest.raises(TargetError, match="more than 3 files: point at a subfolder"):
        meter.add(1)
    with pytest.raises(TargetError, match="more than 500 MB"):
        Meter().add(archive.BYTES_MAX + 1)


def _tar(infos: list[tarfile.TarInfo]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info in infos:
            tar.addfile(info)
    return gzip.compress(raw.getvalue())
