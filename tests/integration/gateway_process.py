"""The real gateway as a child process, and requests to it, for the tests beside this file."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from qefleet.llm.tokens import CallIdentity, mint

SECRET = "a secret of the tests"
KEY = "sk-canary-0123456789"
CHAT = "/openai/v1/chat/completions"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def question(text: str = "hello", *, model: str = "gpt-4.1-mini", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


class GatewayProcess:
    """Starts, kills and asks a gateway.

    Args:
        database: Its database's URL.
        provider: URL of what stands for all providers.
        log: Where its output goes.
        settings: Environment variables beside those that every gateway needs.
    """

    def __init__(self, database: str, provider: str, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = log
        self.database = database
        self.run = uuid4()
        """The run that calls belong to; a test that shares a gateway sets its own."""
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(log.parent),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "QE_DATABASE_URL": database,
            "QE_GATEWAY_PORT": str(self.port),
            "QE_GATEWAY_SECRET": SECRET,
            "QE_LOCAL_MODEL_URL": provider,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": f"{provider}/v1",
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": provider,
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None
        self.client = httpx.AsyncClient(base_url=self.url, verify=False, trust_env=False, timeout=60)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        await self.stop()

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
            self._process = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "worker.gateway", env=self._env, cwd=self.log.parent,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        for _ in range(1200):
            try:
                if (await self.client.get("/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                assert self._process.returncode is None, self.log.read_text()
            await asyncio.sleep(0.05)
        raise AssertionError(self.log.read_text())

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._process = None

    def identity(self, step: str = "test-generator#0", *, ordinal: int = 0) -> CallIdentity:
        return CallIdentity(
            run_id=self.run, workflow_id="wf-1", step=step, agent="test-generator", ordinal=ordinal
        )

    def token(self) -> str:
        return mint(self.identity(), SECRET)

    async def ask(
        self,
        body: dict[str, Any] | None = None,
        *,
        who: CallIdentity | None = None,
        path: str = CHAT,
        token: str | None = None,
        timeout_s: float = 60,
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or mint(who or self.identity(), SECRET)}"}
        return await self.client.post(path, json=body or question(), headers=headers, timeout=timeout_s)
