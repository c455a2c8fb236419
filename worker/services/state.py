"""What a running `qe up` leaves in the data folder for others to find: a lock, its addresses, a secret."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from qefleet.contracts.base import Model
from qefleet.errors import QeError, SettingsError

_LOCK_TRIES_S = 1.0
_LOCK_POLL_S = 0.05


class Addresses(Model):
    """Where the parts of a running system are reached."""

    temporal: str
    """`host:port`."""
    namespace: str = "default"
    ui: str | None
    """URL; null when Temporal is the user's own."""
    gateway: str
    """URL."""
    local_model: str
    """URL where the local model's server listens once it is asked for."""
    database_url: str
    """May hold a password: shown to people through `shown`."""

    def shown(self) -> dict[str, str]:
        """As people may see them."""
        return {k: v for k, v in self.model_dump(exclude={"database_url"}).items() if v is not None} | {
            "database": hide_password(self.database_url)
        }


class Up(Model):
    """A running `qe up`, or `qe run` with services of its own."""

    pid: int
    command: str
    started_at: datetime
    model: str
    addresses: Addresses
    secret_file: Path
    services: dict[str, int]
    """Process ids when it became ready; a service that died since has another."""

    def secret(self) -> str:
        """What callers of its gateway present."""
        return self.secret_file.read_text().strip()


class AlreadyRunning(QeError):
    """Another process runs the services of this data folder."""

    def __init__(self, up: Up | None) -> None:
        who = f"process {up.pid} ({up.command})" if up else "another process, which is still starting"
        super().__init__(f"the services of this data folder are run by {who}")
        self.up = up


class DataFolder:
    """The data folder, held by at most one set of services.

    A context manager: inside it the folder is ours.

    Raises:
        AlreadyRunning: On entering, when it isn't to be had.
        SettingsError: On entering, when it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(_lock_path(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                f"QE_DATA_DIR: {self.path} can't be written ({error.strerror}); choose another folder"
            ) from error
        # `running` looks by taking the lock for a moment: a refusal may be nothing but that.
        deadline = time.monotonic() + _LOCK_TRIES_S
        while not _take(lock):
            if time.monotonic() > deadline:
                os.close(lock)
                raise AlreadyRunning(_read(self.path))
            time.sleep(_LOCK_POLL_S)
        self._lock = lock
        _state_path(self.path).unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _state_path(self.path).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def publish(self, up: Up) -> None:
        """Tell others where everything is."""
        _write_private(_state_path(self.path), up.model_dump_json(indent=2) + "\n")

    def secret_file(self, given: str | None) -> Path:
        """The file with the gateway's secret: the user's, else one made once and kept.

        It is kept because activities that wait for the gateway to come back must be known to it again.
        """
        path = self.path / "gateway.secret"
        if given:
            _write_private(path, given + "\n")
        elif not path.exists() or not path.read_text().strip():
            _write_private(path, secrets.token_urlsafe(32) + "\n")
        return path


def running(data_dir: Path) -> Up | None:
    """Who runs the services of this data folder, once they are ready; None when nobody does."""
    return _read(data_dir) if is_held(data_dir) else None


def is_held(data_dir: Path) -> bool:
    """Whether services run, start or stop in this data folder. A process that was killed holds nothing."""
    try:
        lock = os.open(_lock_path(data_dir), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _take(lock)
    finally:
        os.close(lock)


def hide_password(url: str) -> str:
    """A database address without its password."""
    scheme, mark, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{user.partition(':')[0]}{at}{host}"


def _lock_path(data_dir: Path) -> Path:
    return data_dir / "up.lock"


def _state_path(data_dir: Path) -> Path:
    return data_dir / "up.json"


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(data_dir: Path) -> Up | None:
    try:
        return Up.model_validate_json(_state_path(data_dir).read_bytes())
    except (FileNotFoundError, ValidationError):  # not there yet, or another version's
        return None


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
