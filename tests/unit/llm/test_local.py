"""Which local model is chosen, against an Ollama that is a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qefleet.errors import LocalModelUnavailable, SettingsError
from qefleet.llm import weights
from qefleet.llm.local import GgufModel, OllamaModel, find_local_model, ollama_url

NOBODY = "http://127.0.0.1:9"


@asynccontextmanager
async def ollama(*names: str, body: bytes | None = None) -> AsyncGenerator[str]:
    """A server that lists these models as Ollama does; its URL."""
    content = (
        json.dumps({"models": [{"name": name, "size": 1} for name in names]}).encode()
        if body is None
        else body
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        status = 200 if asked.startswith(b"GET /api/tags ") else 404
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n".encode()
        )
        writer.write(content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF....")
    return path


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the default weights; their size is made small."""
    monkeypatch.setattr(weights, "SIZE_BYTES", 4)
    path = weights.weights_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"GGUF")
    return tmp_path


async def test_the_user_s_file_goes_first(gguf: Path, cached: Path) -> None:
    """QE_LOCAL_MODEL wins over a running Ollama and the cache."""
    async with ollama("qwen:7b") as url:
        found = await find_local_model(cached, choice=str(gguf), ollama_host=url)

    assert found == GgufModel(gguf, "QE_LOCAL_MODEL")


async def test_a_running_ollama_goes_before_the_cache(cached: Path) -> None:
    """A model that is served already costs nothing to use."""
    async with ollama("qwen:7b") as url:
        found = await find_local_model(cached, ollama_host=url)

    assert found == OllamaModel(url, "qwen:7b")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["llama3:8b", "qwen2.5-coder:7b"], "qwen2.5-coder:7b"),
        (["nomic-embed-text:latest", "llama3:8b", "mistral:7b"], "llama3:8b"),
        (["nomic-embed-text:latest"], None),
        ([], None),
    ],
)
async def test_which_of_ollama_s_models(tmp_path: Path, names: list[str], chosen: str | None) -> None:
    """One made for code, else the newest that writes text; an Ollama without any doesn't count."""
    async with ollama(*names) as url:
        found = await find_local_model(tmp_path, ollama_host=url)

    assert (found.name if isinstance(found, OllamaModel) else found) == chosen


async def test_ollama_s_model_may_be_named(tmp_path: Path) -> None:
    """`ollama:NAME` takes that one, with or without its tag."""
    async with ollama("llama3:latest", "qwen2.5-coder:7b") as url:
        found = await find_local_model(tmp_path, choice="ollama:llama3", ollama_host=url)

    assert found == OllamaModel(url, "llama3:latest")


async def test_a_name_that_ollama_doesn_t_have(tmp_path: Path) -> None:
    """The message lists those that it has."""
    async with ollama("llama3:latest") as url:
        with pytest.raises(SettingsError, match="it has: llama3:latest"):
            await find_local_model(tmp_path, choice="ollama:phi", ollama_host=url)


async def test_a_name_without_an_ollama(tmp_path: Path) -> None:
    """Nobody there is another thing than no such model."""
    with pytest.raises(LocalModelUnavailable, match="start it"):
        await find_local_model(tmp_path, choice="ollama:phi", ollama_host=NOBODY)


async def test_the_cache_comes_last(cached: Path) -> None:
    """Without a choice and without Ollama the cached weights serve."""
    found = await find_local_model(cached, ollama_host=NOBODY)

    assert found == GgufModel(weights.weights_path(cached), "the default weights")


async def test_nothing_here(tmp_path: Path) -> None:
    """None: the weights would have to be fetched."""
    assert await find_local_model(tmp_path, ollama_host=NOBODY) is None


async def test_something_else_on_ollama_s_port(tmp_path: Path) -> None:
    """A server that isn't Ollama is no model."""
    async with ollama(body=b"<html>") as url:
        assert await find_local_model(tmp_path, ollama_host=url) is None


def test_how_the_gateway_knows_them(gguf: Path) -> None:
    """A file is the provider `local`; Ollama is a provider of its own."""
    assert GgufModel(gguf, "").model == "local"
    assert OllamaModel("http://localhost:1", "qwen:7b").model == "ollama/qwen:7b"


@pytest.mark.parametrize("content", [b"PK\x03\x04", b""])
async def test_a_file_that_is_no_gguf(tmp_path: Path, content: bytes) -> None:
    """A wrong file is refused at once, not by a server that doesn't start."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match="QE_LOCAL_MODEL"):
        await find_local_model(tmp_path, choice=str(path))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://localhost:11434"),
        ("", "http://localhost:11434"),
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:9000", "http://localhost:9000"),
        ("gpu.example", "http://gpu.example:11434"),
        ("http://gpu.example:80", "http://gpu.example"),
        ("https://gpu.example/", "https://gpu.example"),
    ],
)
def test_ollama_host_is_read_as_ollama_does(given: str | None, url: str) -> None:
    """Host, host and port, or URL; what a server listens on becomes what a client asks."""
    assert ollama_url(given) == url
