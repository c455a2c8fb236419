"""The one way from a sandbox to the network: an HTTP proxy behind a Unix socket.

Build back ends are as untrusted as the code under test, and need the package index. They stay in a network
namespace of their own, with this proxy as the only way out: it connects to public addresses and to the
hosts that the user named as indexes, never to this machine, its neighbours or a cloud's metadata service.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import re
import socket
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from qefleet.workspace.index_settings import IndexSettings

_HEAD_MAX = 64 * 1024
_CHUNK = 1 << 16
_CONNECT_S = 30.0
_REQUEST = re.compile(rb"^(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.[01]\r\n")


class _Denied(Exception):
    """This place is not to be reached from a sandbox."""


@asynccontextmanager
async def open_egress(settings: IndexSettings) -> AsyncGenerator[Path]:
    """The path of a socket with the proxy behind it, until the block ends."""
    proxy = _Proxy(settings)
    # A short path: the address of a Unix socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="qe-egress-") as folder:
        path = Path(folder) / "s"
        server = await asyncio.start_unix_server(proxy.serve, path, limit=_HEAD_MAX)
        path.chmod(0o666)  # the sandbox's user is another; who is outside can't pass the folder
        try:
            yield path
        finally:
            server.close()
            await proxy.close()


class _Proxy:
    def __init__(self, settings: IndexSettings) -> None:
        self._hosts = settings.hosts
        self._upstream = urlsplit(settings.upstream_proxy) if settings.upstream_proxy else None
        self._serving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all connections that are still open."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            await self._forward(reader, writer)
        except (
            _Denied,
            OSError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            TimeoutError,
        ) as error:
            status = b"403 Forbidden" if isinstance(error, _Denied) else b"502 Bad Gateway"
            with contextlib.suppress(OSError):
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
        finally:
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request = _REQUEST.match(head)
        if request is None:
            raise _Denied("not a request to a proxy")
        tunnel = request["method"] == b"CONNECT"
        target = request["target"].decode("ascii", "replace")
        parts = urlsplit(f"//{target}" if tunnel else target)
        if not parts.hostname or (not tunnel and parts.scheme != "http"):
            raise _Denied("not a request to a proxy")
        port = parts.port or (443 if tunnel else 80)
        async with asyncio.timeout(_CONNECT_S):
            remote, sink = await self._connect(parts.hostname, port, tunnel=tunnel)
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                sink.write(self._plain_head(head, request, target))
            # The first end that closes ends both: neither uv nor pip half-closes.
            pumps = {asyncio.create_task(_pump(reader, sink)), asyncio.create_task(_pump(remote, writer))}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            sink.close()

    def _plain_head(self, head: bytes, request: re.Match[bytes], target: str) -> bytes:
        """The head as the other side expects it, for one request only: the next may name another host."""
        parts = urlsplit(target)
        path = target if self._upstream else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = head[request.end() :].split(b"\r\n")
        kept = [line for line in lines if line and not line.lower().startswith((b"proxy-", b"connection:"))]
        first = request["method"] + b" " + path.encode() + b" HTTP/1.1"
        return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])

    async def _connect(
        self, host: str, port: int, *, tunnel: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._upstream is None:
            address = await self._permitted(host, port)
            return await asyncio.open_connection(address, port)
        if _literal(host) is not None and host not in self._hosts:
            raise _Denied(host)  # names are the upstream proxy's to resolve and to refuse
        reader, writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port or 80)
        if tunnel:
            credentials = f"{self._upstream.username}:{self._upstream.password or ''}".encode()
            greeting = b"Proxy-Authorization: Basic " + base64.b64encode(credentials) + b"\r\n"
            place = f"{host}:{port}".encode()
            writer.write(b"CONNECT " + place + b" HTTP/1.1\r\nHost: " + place + b"\r\n")
            writer.write((greeting if self._upstream.username else b"") + b"\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200" not in answer.partition(b"\r\n")[0]:
                writer.close()
                raise ConnectionError("the upstream proxy refuses")
        return reader, writer

    async def _permitted(self, host: str, port: int) -> str:
        """An address of the host, resolved once: what was judged is what is connected to."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, place in found:
            address = str(place[0])
            if host in self._hosts or ipaddress.ip_address(address.partition("%")[0]).is_global:
                return address
        raise _Denied(host)


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await source.read(_CHUNK):
            sink.write(part)
            await sink.drain()
