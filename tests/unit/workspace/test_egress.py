from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from qefleet.workspace.egress import open_egress
from qefleet.workspace.index_settings import IndexSettings


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server of this machine that answers a line with the same line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def ask(settings: IndexSettings, request: str, then: bytes = b"") -> bytes:
    async with open_egress(settings) as path, asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request.encode())
        answer = b""
        if then:
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(then)
        answer += await reader.read()
        writer.close()
        return answer


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "192.168.1.1", "0.0.0.0", "[fe80::1]"],
)
async def test_this_machine_and_its_neighbours_are_out_of_reach(host: str, port: int) -> None:
    """Loopback, link-local and private addresses are refused, whether tunnelled or not."""
    tunnelled = await ask(IndexSettings(), f"CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n")
    plain = await ask(IndexSettings(), f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n")

    assert tunnelled.startswith(b"HTTP/1.1 403")
    assert plain.startswith(b"HTTP/1.1 403")


async def test_a_named_index_is_reached_wherever_it_is(port: int) -> None:
    """An index in the user's own network is one that the user named."""
    settings = IndexSettings(hosts=frozenset({"127.0.0.1"}))

    tunnelled = await ask(settings, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n", then=b"hello\n")
    plain = await ask(settings, f"GET http://127.0.0.1:{port}/simple/x?y HTTP/1.1\r\nHost: h\r\n\r\n")

    assert tunnelled.endswith(b"\r\n\r\nhello\n")
    assert plain == b"GET /simple/x?y HTTP/1.1\r\n"


async def test_a_proxy_of_the_users_is_passed_through(port: int) -> None:
    """Where this machine is behind a proxy, names are asked of it; addresses are refused here."""
    settings = IndexSettings(upstream_proxy=f"http://127.0.0.1:{port}")

    by_name = await ask(settings, "GET http://pypi.org/simple/ HTTP/1.1\r\nHost: pypi.org\r\n\r\n")
    by_address = await ask(settings, "CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n")

    assert by_name == b"GET http://pypi.org/simple/ HTTP/1.1\r\n"
    assert by_address.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "request_text", ["GET / HTTP/1.1\r\n\r\n", "x\r\n\r\n", "GET ftp://x/ HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_request_to_a_proxy_is_refused(request_text: str) -> None:
    """Anything else gets an answer and no connection."""
    assert (await ask(IndexSettings(), request_text)).startswith(b"HTTP/1.1 403")


async def test_a_server_that_does_not_answer_is_a_bad_gateway() -> None:
    """A refused connection is told as such."""
    settings = IndexSettings(hosts=frozenset({"127.0.0.1"}))

    assert (await ask(settings, "CONNECT 127.0.0.1:9 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502")
