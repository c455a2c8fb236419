"""Keeps child processes running: starts them in stages, starts them again when they die, stops them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from qefleet.errors import QeError
from worker.services import launch
from worker.services.logs import LogFile
from worker.services.service import Announce, Event, Kind, Service, ServiceFailed

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
HEALTHY_AFTER_S = 30.0
"""A child that lived this long is started again without delay."""
POLL_S = 0.1
TRIM_EVERY_S = 60.0


class Supervisor:
    """Runs services until it is left; they don't outlive this process, however it ends.

    An async context manager: leaving it stops all services, the last stage first.
    """

    def __init__(self, *, logs: Path, announce: Announce) -> None:
        self._logs = logs
        self._announce = announce
        self._children: dict[str, _Child] = {}
        self._housekeeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._housekeeping = asyncio.create_task(self._trim_logs(), name="trim logs")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, services: Iterable[Service]) -> None:
        """Start services, stage by stage; those of a stage together.

        Raises:
            ServiceFailed: One ended or wasn't ready in time. Those that run go on until `stop`.
        """
        for _, stage in groupby(sorted(services, key=_stage), key=_stage):
            starts = [asyncio.create_task(self._start_one(service)) for service in stage]
            try:
                await asyncio.gather(*starts)
            finally:
                for task in starts:
                    task.cancel()
                await asyncio.gather(*starts, return_exceptions=True)

    def pids(self) -> Mapping[str, int]:
        """The process id of each service that runs now."""
        return {name: child.pid for name, child in self._children.items() if child.pid}

    async def stop(self) -> None:
        """Stop all, the last stage first; those of a stage together."""
        children = sorted(self._children.values(), key=lambda c: c.service.stage, reverse=True)
        try:
            for _, stage in groupby(children, key=lambda c: c.service.stage):
                await asyncio.gather(*(child.stop() for child in stage))
        finally:
            self.kill()
            if self._housekeeping:
                self._housekeeping.cancel()

    def kill(self) -> None:
        """End all at once, without grace."""
        for child in self._children.values():
            child.kill()

    async def _start_one(self, service: Service) -> None:
        child = _Child(service, LogFile(self._logs, service.name), self._announce)
        self._children[service.name] = child
        await child.start()

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            for child in self._children.values():
                child.log.trim()


def _stage(service: Service) -> int:
    return service.stage


class _Child:
    """One service's process, and its successors."""

    def __init__(self, service: Service, log: LogFile, announce: Announce) -> None:
        self.service = service
        self.log = log
        self._announce = announce
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The running process, or None between two."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Start it, wait until it serves, and watch it from then on."""
        self.log.rotate()
        self._tell("starting")
        began = time.monotonic()
        await self._spawn_until_ready()
        if self.service.after_first_start:
            await self.service.after_first_start()
        self._tell("ready", f"{self.service.address} ({time.monotonic() - began:.1f} s)".strip())
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.service.name}")

    async def stop(self) -> None:
        """Ask it to end, and kill it when it takes too long."""
        self._stopping = True
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            self._tell("stopping")
            self.service.request_stop(process.pid)
            try:
                await asyncio.wait_for(process.wait(), self.service.stop_grace_s)
            except TimeoutError:
                self._tell("notice", f"didn't stop within {self.service.stop_grace_s:.0f} s and is killed")
        self.kill()
        await process.wait()
        self._tell("stopped")

    def kill(self) -> None:
        """End it at once; it isn't started again."""
        self._stopping = True
        if self._keeper:
            self._keeper.cancel()
        self._end()

    def _end(self) -> None:
        """End its process and what it may have left in its process group."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    async def _keep(self) -> None:
        """Start it again whenever it dies, with a growing pause while it dies young."""
        pause_s = BACKOFF_FIRST_S
        while True:
            began = time.monotonic()
            code = await self._running().wait()
            self._end()
            if time.monotonic() - began > HEALTHY_AFTER_S:
                pause_s = BACKOFF_FIRST_S
            died = time.monotonic()
            self._tell("died", f"{describe_exit(code)}; is started again in {pause_s:.1f} s")
            while True:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, BACKOFF_MAX_S)
                try:
                    await self._spawn_until_ready()
                except (QeError, OSError) as error:
                    self._tell("died", f"{error}; next try in {pause_s:.1f} s")
                else:
                    break
            self._tell("restarted", f"{time.monotonic() - died:.1f} s after its end")

    async def _spawn_until_ready(self) -> None:
        service = self.service
        if service.prepare:
            await service.prepare()
        mark = self.log.mark()
        descriptor = self.log.open()
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                launch.__file__,
                str(os.getpid()),
                *service.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=dict(service.env),
                cwd=service.cwd,
                start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and we stop them in order
            )
        finally:
            os.close(descriptor)
        deadline = time.monotonic() + service.start_timeout_s
        while not await service.ready(process.pid):
            if process.returncode is not None:
                raise self._failed(f"ended while starting: {describe_exit(process.returncode)}", mark)
            if time.monotonic() > deadline:
                self._end()
                await process.wait()
                raise self._failed(f"isn't ready after {service.start_timeout_s:.0f} s", mark)
            await asyncio.sleep(POLL_S)
        if process.returncode is not None:  # somebody else answers on its address
            raise self._failed(f"ended while starting: {describe_exit(process.returncode)}", mark)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.service.name} was never started")
        return self._process

    def _failed(self, reason: str, mark: int) -> ServiceFailed:
        return ServiceFailed(self.service.name, reason, log=self.log.path, tail=self.log.tail(since=mark))

    def _tell(self, kind: Kind, text: str = "") -> None:
        self._announce(Event(kind=kind, service=self.service.name, text=text))


def describe_exit(code: int) -> str:
    """An exit code in words, such as `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
