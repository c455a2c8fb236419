"""lionagi as `qefleet.llm.call` sets it up, and a server that answers with given bytes."""

# lionagi's own signatures leave much bare; what matters here is what happens at run time.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from lionagi import Branch, iModel

NO_LOG = {"auto_save_on_exit": False, "capacity": None}


@asynccontextmanager
async def connected(
    url: str, provider: Literal["openai", "anthropic"] = "openai", **settings: Any
) -> AsyncGenerator[iModel]:
    """An iModel with the settings that our own calls use, each of which a test here accounts for."""
    given: dict[str, Any] = {
        "provider": provider,
        "endpoint": "chat",
        "model": "some-model",
        "base_url": f"{url}/{provider}/v1",
        "api_key": "the-token",
        "allow_local_network": True,
        "requires_tokens": False,
        "max_retries": 1,
        "timeout": 5,
        "queue_capacity": 10_000,
    }
    model = iModel(**{**given, **settings})
    try:
        yield model
    finally:
        await model.close()


def branch(model: iModel, system: str = "You test.") -> Branch:
    """A Branch that writes no files."""
    return Branch(system=system, chat_model=model, log_config=NO_LOG)


async def ask(model: iModel, text: str = "Hello.", **options: Any) -> Any:
    """One turn of a fresh Branch, as our own calls make it."""
    return await branch(model).communicate(
        instruction=text, plain_content=text, skip_validation=True, **options
    )


@asynccontextmanager
async def raw_answer(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[str]:
    """A server that answers every request with these bytes; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length"))
        await reader.readexactly(int(length.split(":")[1]))
        lines = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        writer.write(f"HTTP/1.1 {status} X\r\n".encode())
        writer.writelines(
            f"{name}: {value}\r\n".encode() for name, value in (lines | dict(headers or {})).items()
        )
        writer.write(b"\r\n" + body)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
