from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.services import logs
from worker.services.logs import LogFile


def test_tail_is_of_what_was_written_since(tmp_path: Path) -> None:
    """A failed restart quotes its own lines, not those of the process before it."""
    log = LogFile(tmp_path, "x")
    log.path.write_text("old\n")
    mark = log.mark()
    with log.path.open("a") as file:
        file.write("one\ntwo\nthree\n")

    assert log.tail(lines=2, since=mark) == "two\nthree"
    assert log.tail(since=mark) == "one\ntwo\nthree"


def test_rotation_keeps_one_old_file(tmp_path: Path) -> None:
    """What the last start wrote can still be read."""
    log = LogFile(tmp_path, "x")
    for text in ("first", "second"):
        log.rotate()
        log.path.write_text(text)

    log.rotate()

    assert not log.path.exists()
    assert (tmp_path / "x.log.1").read_text() == "second"


def test_long_log_is_emptied_under_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that appends goes on at the beginning: no hole, no lost line."""
    monkeypatch.setattr(logs, "MAX_BYTES", 10)
    log = LogFile(tmp_path, "x")
    descriptor = log.open()
    os.write(descriptor, b"more than ten bytes\n")

    log.trim()
    os.write(descriptor, b"on\n")
    os.close(descriptor)

    assert log.path.read_bytes() == b"on\n"
