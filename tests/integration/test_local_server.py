"""The local model's server: the real llama.cpp one, with a model too small to say anything."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from tiny_gguf import write_tiny_gguf

from qefleet.errors import LocalModelUnavailable
from qefleet.llm.local_server import command, default_threads, wait_ready


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@asynccontextmanager
async def served(model: Path) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """The server's process and its URL, ready; it is killed afterwards if it is still there."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *command(model, port=port, threads=1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await wait_ready(url, timeout_s=60)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture(scope="module")
async def url(model: Path) -> AsyncIterator[str]:
    async with served(model) as (_, address):
        yield address


async def test_a_schema_constrains_the_answer(url: str) -> None:
    """Even a model that knows nothing answers with JSON of the given shape."""
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    body = {
        "model": "local",
        "messages": [{"role": "user", "content": "Is it?"}],
        "max_tokens": 60,
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "Out", "schema": schema}},
    }

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = (await client.post(f"{url}/v1/chat/completions", json=body)).json()

    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert isinstance(json.loads(choice["message"]["content"])["good"], bool)
    assert answer["usage"]["completion_tokens"] > 0


async def test_it_shows_nobody_s_prompts(url: str) -> None:
    """The paths that tell what others asked, and the page for people, are off."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        statuses = [(await client.get(f"{url}{path}")).status_code for path in ("/slots", "/")]

    assert all(status >= 400 for status in statuses)


async def test_it_listens_on_the_given_address_only(url: str) -> None:
    """Nobody outside of this machine reaches it."""
    port = httpx.URL(url).port

    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_at_once(model: Path, sent: signal.Signals) -> None:
    """It ends within two seconds, and says that all went well."""
    async with served(model) as (process, _):
        begun = time.monotonic()
        process.send_signal(sent)
        code = await process.wait()

    assert code == 0
    assert time.monotonic() - begun < 2


async def test_it_dies_with_its_parent(model: Path) -> None:
    """Kill -9 of whoever started it leaves no server behind."""
    port = free_port()
    code = (
        f"import subprocess; print(subprocess.Popen({command(model, port=port)!r}).pid, flush=True); input()"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    server = psutil.Process(int(await parent.stdout.readline()))
    await wait_ready(f"http://127.0.0.1:{port}", timeout_s=60)

    parent.kill()
    await parent.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [server], timeout=5)

    assert gone == [server]


async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    """It ends with a sentence about that file."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))

    process = await asyncio.create_subprocess_exec(
        *command(broken, port=free_port()), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = (await process.communicate())[1].decode()

    assert process.returncode == 1
    assert f"{broken} can't be served" in said


async def test_waiting_ends() -> None:
    """A server that never comes is an error that says where to look."""
    with pytest.raises(LocalModelUnavailable, match="isn't ready after 1 s"):
        await wait_ready("http://127.0.0.1:9", timeout_s=1)


def test_threads_are_those_that_there_are() -> None:
    """At least one, never more than four."""
    assert 1 <= default_threads() <= 4
