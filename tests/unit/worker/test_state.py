from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qefleet.errors import SettingsError
from worker.services.state import Addresses, AlreadyRunning, DataFolder, Up, hide_password, is_held, running


def _up(folder: Path) -> Up:
    return Up(
        pid=1,
        command="qe up",
        started_at=datetime.now(UTC),
        model="none",
        addresses=Addresses(
            temporal="127.0.0.1:1",
            ui=None,
            gateway="g",
            local_model="l",
            database_url="postgresql://u:pw@h/d",
        ),
        secret_file=folder / "gateway.secret",
        services={},
    )


def test_published_state_is_found_while_the_folder_is_held(tmp_path: Path) -> None:
    """Others find a running system, and nothing once it has ended."""
    with DataFolder(tmp_path) as folder:
        assert running(tmp_path) is None
        folder.publish(_up(tmp_path))
        found = running(tmp_path)

    assert found == _up(tmp_path).model_copy(update={"started_at": found.started_at if found else None})
    assert running(tmp_path) is None


def test_state_that_a_killed_process_left_is_not_believed(tmp_path: Path) -> None:
    """Without the lock, `up.json` is a leftover."""
    (tmp_path / "up.json").write_text(_up(tmp_path).model_dump_json())
    (tmp_path / "up.lock").touch()

    assert not is_held(tmp_path)
    assert running(tmp_path) is None


def test_second_holder_is_told_of_the_first(tmp_path: Path) -> None:
    """The refusal carries who runs and where."""
    with DataFolder(tmp_path) as folder:
        folder.publish(_up(tmp_path))

        with pytest.raises(AlreadyRunning, match="process 1") as caught, DataFolder(tmp_path):
            pass

    assert caught.value.up is not None


def test_secret_is_kept_and_private(tmp_path: Path) -> None:
    """A restart knows the same secret; nobody else reads it."""
    with DataFolder(tmp_path) as folder:
        first = folder.secret_file(None).read_text()
    with DataFolder(tmp_path) as folder:
        again = folder.secret_file(None)
        folder.publish(_up(tmp_path))

        assert again.read_text() == first
        assert stat.S_IMODE(again.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "up.json").stat().st_mode) == 0o600


def test_unusable_data_folder_is_a_settings_error(tmp_path: Path) -> None:
    """A file in its place is named with the variable that moves it."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="QE_DATA_DIR"), DataFolder(tmp_path / "file"):
        pass


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:1/d", "postgresql://u@h:1/d"),
        ("postgresql://u:p@x@h/d", "postgresql://u@h/d"),
        ("postgresql://qe@/d?host=/run", "postgresql://qe@/d?host=/run"),
        ("postgresql://h/d", "postgresql://h/d"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    """People see where a database is and who connects, not the password."""
    assert hide_password(url) == shown
