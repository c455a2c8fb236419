"""Runs without a sandbox, after the user's explicit consent: limits and a clean environment, no more.

The paths that runs know (`/src`, `/out`, `/qe`, `/env`) don't exist on the host, so each run gets a folder of
its own that stands for them, and the paths in arguments, environment and files are translated. Code can read
and write what its user can, can use the network, and can leave a daemon behind: every result of such a run
says `confined=False`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from qefleet.workspace.sandbox import Finished, Limits, Mount

_OWN = ("/out", "/qe", "/tmp")  # noqa: S108  paths that runs know
_CHUNK = 1 << 16
_PRELUDE = """
import json, os, resource, sys
for name, value in json.loads(sys.argv[1]).items():
    kind = getattr(resource, name, None)
    if kind is not None:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            pass
try:
    os.execvpe(sys.argv[2], sys.argv[2:], os.environ)
except OSError as error:
    print(f"qe: cannot start {sys.argv[2]!r}: {error}", flush=True)
    os._exit(127)
"""


class Unconfined:
    """Runs commands as plain processes of this user."""

    confined = False

    def __init__(self, scratch_root: Path) -> None:
        self._root = scratch_root

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
        """See `Sandbox.run`; nothing keeps such a run from the network, with or without `egress`."""
        del egress
        folder = self._root / f"run-{uuid.uuid4().hex}"
        places = _Places(folder, mounts)
        try:
            await asyncio.to_thread(places.make, mounts, files)
            words = [places.translate(word) for word in argv]
            finished = await self._execute(words, places.host(cwd), places.environment(env), limits)
            outputs = await asyncio.to_thread(places.collect, collect, limits.collect_bytes)
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
        exit_code, output, truncated, stopped, duration_s = finished
        return Finished(
            argv=tuple(argv),
            exit_code=exit_code,
            output=output,
            truncated=truncated,
            timed_out=stopped,
            duration_s=duration_s,
            confined=False,
            stopped="time" if stopped else None,
            outputs=outputs,
        )

    async def _execute(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], limits: Limits
    ) -> tuple[int | None, bytes, bool, bool, float]:
        rlimits = {
            "RLIMIT_CPU": int(limits.cpu_s),
            "RLIMIT_DATA": limits.memory_bytes,
            "RLIMIT_AS": limits.address_bytes or 4 * limits.memory_bytes,
            "RLIMIT_FSIZE": limits.file_bytes,
            "RLIMIT_CORE": 0,
        }
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _PRELUDE, json.dumps(rlimits), *argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        kept = _Kept(limits.output_bytes)
        reading = asyncio.create_task(_read(process, kept))
        stopped = False
        try:
            async with asyncio.timeout(limits.wall_s):
                await process.wait()
        except TimeoutError:
            stopped = True
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
            # A daemon may keep the pipe open for good: what is in it is taken, then it is left.
            await asyncio.wait({reading}, timeout=1)
            reading.cancel()
        code = process.returncode or 0
        exit_code = None if stopped else (128 - code if code < 0 else code)
        return exit_code, kept.text(), kept.truncated, stopped, time.monotonic() - started


class _Places:
    """Where on the host the paths of a run lie."""

    def __init__(self, folder: Path, mounts: Sequence[Mount]) -> None:
        self._by_inside = {inside: folder / inside.strip("/") for inside in _OWN}
        for number, mount in enumerate(mount for mount in mounts if mount.layered):
            self._by_inside[f"/.lower{number}"] = mount.host
        for mount in mounts:
            self._by_inside[mount.inside] = folder / mount.inside.strip("/") if mount.layered else mount.host
        longest_first = sorted(self._by_inside, key=len, reverse=True)
        self._known = re.compile(r"(?<![\w./-])(" + "|".join(map(re.escape, longest_first)) + r")(?![\w.-])")

    def make(self, mounts: Sequence[Mount], files: Mapping[str, bytes]) -> None:
        for inside in _OWN:
            self._by_inside[inside].mkdir(parents=True)
        for mount in mounts:
            if mount.layered:
                shutil.copytree(mount.host, self._by_inside[mount.inside], symlinks=True)
        for name, content in files.items():
            place = self.host(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.write_text(self.translate(content.decode()), "utf-8", newline="")
            except UnicodeDecodeError:
                place.write_bytes(content)

    def translate(self, text: str) -> str:
        return self._known.sub(lambda found: str(self._by_inside[found[1]]), text)

    def host(self, inside: str) -> Path:
        return Path(self.translate(inside))

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        given = {name: self.translate(value) for name, value in env.items()}
        if "/src" in self._by_inside:
            # Where an editable installation points to is gone: this run's copy goes first.
            source = self._by_inside["/src"]
            given["PYTHONPATH"] = os.pathsep.join(
                filter(None, [given.get("PYTHONPATH"), str(source), str(source / "src")])
            )
        return given

    def collect(self, names: Sequence[str], cap: int) -> dict[str, bytes]:
        collected: dict[str, bytes] = {}
        for name in names:
            try:
                descriptor = os.open(self.host(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size <= cap:
                    collected[name] = file.read(cap)
                    cap -= len(collected[name])
        return collected


class _Kept:
    """Head and tail of what was printed."""

    def __init__(self, cap: int) -> None:
        self._half = cap // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        room = max(self._half - len(self._head), 0)
        self._head += part[:room]
        self._tail += part[room:]
        if len(self._tail) > self._half + 8 * _CHUNK:
            del self._tail[: -self._half]

    @property
    def truncated(self) -> bool:
        return self._size > 2 * self._half

    def text(self) -> bytes:
        if not self.truncated:
            return bytes(self._head + self._tail)
        gap = f"\n[... {self._size - 2 * self._half} bytes left out ...]\n".encode()
        return bytes(self._head) + gap + bytes(self._tail[-self._half :])


async def _read(process: asyncio.subprocess.Process, kept: _Kept) -> None:
    if process.stdout is not None:
        while part := await process.stdout.read(_CHUNK):
            kept.add(part)
