"""Run a system's services behind proxies of ours, probe it, and do it harm: one experiment after the other.

Each experiment starts the whole system anew. A service listens on a port of its own; everyone else, the other
services and the probes, reaches it through its proxy, on the port that the system's users know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # isolated interpreters don't look beside a program
from qe_system import Service

_CHUNK = 1 << 16
_STEADY_ROUNDS = 5
"""So many rounds of probes in a row show that a system is steady again, or that too many fail."""


class Proxy:
    """Passes connections on to a service, and harms them while a fault lasts.

    Args:
        port: Where it listens.
        target: The service's own port.
    """

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay_s = 0.0
        self._reset_every = 0
        self._accepted = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self) -> asyncio.Server:
        """Listen."""
        return await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    def harm(self, fault: str, *, delay_s: float, every: int) -> None:
        """Begin with a fault: every n-th connection is reset, each piece of a request is delayed."""
        if fault == "delay":
            self._delay_s = delay_s
        elif fault == "cut":
            self._flows.clear()
        elif fault == "reset":
            self._accepted, self._reset_every = 0, every
            for number, writer in enumerate(tuple(self._open), 1):
                if number % every == 0:
                    _reset(writer)

    def heal(self) -> None:
        """End all faults."""
        self._delay_s, self._reset_every = 0.0, 0
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        self._open.add(writer)
        ends, whole = [writer], False
        try:
            if self._reset_every and self._accepted % self._reset_every == 0:
                return
            await self._flows.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(back)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, back, delayed=True))
                group.create_task(self._pass_on(there, writer, delayed=False))
            whole = True
        except* OSError:
            pass  # the other end is to see it, too
        finally:
            self._open.discard(writer)
            for end in ends:
                end.close() if whole else _reset(end)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, delayed: bool
    ) -> None:
        while piece := await reader.read(_CHUNK):
            if delayed and self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flows.wait()
            writer.write(piece)
            await writer.drain()
        await self._flows.wait()
        if writer.can_write_eof():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without goodbye: the peer sees a broken connection, not an end."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class System:
    """All services, each behind its proxy."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.services: dict[str, Service] = {}
        self.proxies: dict[str, Proxy] = {}
        self._ready_s: dict[str, float] = {}
        taken = {service["port"] for service in spec.values()}
        for name, service in spec.items():
            own = _free_port(taken)
            taken.add(own)
            argv = [part.replace("{port}", str(own)) for part in service["command"]]
            env = {key: value.replace("{port}", str(own)) for key, value in service["env"].items()}
            self.services[name] = Service(name, argv, port=own, env=env)
            self.proxies[name] = Proxy(service["port"], own)
            self._ready_s[name] = service["ready_s"]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[str]:
        """Start it, the services in their order; gives why it couldn't be, empty where it could."""
        servers: list[asyncio.Server] = []
        try:
            why = ""
            for proxy in self.proxies.values():
                try:
                    servers.append(await proxy.open())
                except OSError as error:
                    why = f"a proxy can't listen: {error}"
            for name, service in self.services.items():
                why = why or service.start() or await asyncio.to_thread(service.wait, self._ready_s[name])
            yield why
        finally:
            for server in servers:
                server.close()
            await asyncio.gather(*(asyncio.to_thread(service.stop) for service in self.services.values()))


class Watch:
    """Sends probes, round by round, and writes down what came of each."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._probes: list[dict[str, Any]] = spec["probes"]
        self._interval_s: float = spec["interval_s"]
        self._began = time.monotonic()
        self.samples: list[dict[str, Any]] = []
        self.phase = "before"
        self.good_rounds = 0

    def now(self) -> float:
        """Seconds since the experiment's first probe."""
        return time.monotonic() - self._began

    def failed_percent(self) -> float:
        """Of the fault's probes so far; 0 until there are enough of them to tell."""
        during = [sample for sample in self.samples if sample["phase"] == "during"]
        if len(during) < _STEADY_ROUNDS * len(self._probes):
            return 0.0
        return 100 * sum(bool(sample["wrong"]) for sample in during) / len(during)

    async def round(self) -> None:
        """Send each probe once, then wait until the next round is due."""
        phase, started = self.phase, self.now()
        came = await asyncio.gather(*(_probe(probe) for probe in self._probes))
        for probe, (ms, wrong) in zip(self._probes, came, strict=True):
            sample = {"t_s": started, "phase": phase, "probe": probe["name"], "ms": ms, "wrong": wrong}
            self.samples.append(sample)
        self.good_rounds = 0 if any(wrong for _, wrong in came) else self.good_rounds + 1
        await asyncio.sleep(max(0.0, self._interval_s - (self.now() - started)))


async def _probe(probe: Mapping[str, Any]) -> tuple[float, str]:
    started = time.monotonic()
    status, wrong = 0, ""
    try:
        async with asyncio.timeout(probe["timeout_s"]):
            status = await _status(probe["port"], probe["path"])
    except TimeoutError:
        wrong = f"no answer within {probe['timeout_s']:g} s"
    except (OSError, ValueError, IndexError) as error:
        wrong = f"no answer: {type(error).__name__}"
    ms = 1000 * (time.monotonic() - started)
    if not wrong and status != probe["status"]:
        wrong = f"status {status}"
    limit = probe["max_latency_ms"]
    if not wrong and limit is not None and ms > limit:
        wrong = f"slower than {limit:g} ms"
    return ms, wrong


async def _status(port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        line = await reader.readline()
        status = int(line.split()[1])
        while await reader.read(_CHUNK):
            pass
        return status
    finally:
        writer.transport.abort()


async def experiment(spec: Mapping[str, Any], it: Mapping[str, Any]) -> dict[str, Any]:
    """Run one experiment; what was seen of it."""
    system = System(spec["services"])
    record: dict[str, Any] = {"id": it["id"]}
    async with system.running() as why:
        if why:
            return {**record, "why": why}
        watch = Watch(spec)
        while watch.now() < spec["before_s"] or len(watch.samples) < _STEADY_ROUNDS:
            await watch.round()
        if watch.good_rounds < _STEADY_ROUNDS:
            return {**record, "samples": watch.samples}
        record |= await _harmed(system, watch, it, most_percent=spec["blast_radius_max_percent"])
        deadline = watch.now() + spec["recovery_max_s"]
        while watch.good_rounds < _STEADY_ROUNDS and watch.now() < deadline:
            await watch.round()
        return {**record, "samples": watch.samples, "steady_again": watch.good_rounds >= _STEADY_ROUNDS}


async def _harmed(
    system: System, watch: Watch, it: Mapping[str, Any], *, most_percent: float
) -> dict[str, Any]:
    """Begin the fault, probe while it lasts, end it: at its time whatever a probe waits for, or early."""
    service, proxy = system.services[it["service"]], system.proxies[it["service"]]
    watch.phase, watch.good_rounds = "during", 0
    began = watch.now()
    if it["fault"] == "kill":
        await asyncio.to_thread(service.kill)
    proxy.harm(it["fault"], delay_s=it["delay_ms"] / 1000, every=it["every"])
    ended = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(it["duration_s"], ended.set)
    healing = asyncio.create_task(_heal(ended, watch, service, proxy, it))
    stopped = False
    while not ended.is_set():
        await watch.round()
        if watch.failed_percent() > most_percent and not ended.is_set():
            stopped = True
            ended.set()
    timer.cancel()
    healed = await healing
    for_good = it["fault"] == "kill" and not it["restart"]
    return {"fault_s": began, "healed_s": began if for_good else healed, "stopped": stopped}


async def _heal(
    ended: asyncio.Event, watch: Watch, service: Service, proxy: Proxy, it: Mapping[str, Any]
) -> float:
    await ended.wait()
    proxy.heal()
    if it["fault"] == "kill" and it["restart"]:
        await asyncio.to_thread(service.stop)
        service.start()
    watch.phase = "after"
    if it["fault"] != "kill" or it["restart"]:
        watch.good_rounds = 0
    return watch.now()


def _free_port(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


async def _all(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [await experiment(spec, it) for it in spec["experiments"]]


def main() -> int:
    """Do as `/qe/spec.json` says; what was seen in `/out/chaos.json`."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    records = asyncio.run(_all(spec))
    Path("/out/chaos.json").write_text(json.dumps(records), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
