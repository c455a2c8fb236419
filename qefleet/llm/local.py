"""Which model `QE_MODEL=local` means on this machine.

In this order: what the user names (a GGUF file, or a model of their Ollama), an Ollama that is running and
has a model, and the default weights, fetched if need be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BaseModel, StringConstraints, ValidationError

from qefleet.errors import LocalModelUnavailable, SettingsError
from qefleet.llm.weights import Progress, cached_weights, download_weights

OLLAMA_URL = "http://localhost:11434"

_OLLAMA_PREFIX = "ollama:"
_OLLAMA_PORT = 11434
_REACH_S = 2.0


@dataclass(frozen=True)
class GgufModel:
    """A file for `qefleet.llm.local_server`."""

    path: Path
    origin: str
    """Where it comes from, for people."""

    @property
    def model(self) -> str:
        """As the gateway knows it."""
        return "local"


@dataclass(frozen=True)
class OllamaModel:
    """A model that the user's Ollama serves; we start nothing."""

    url: str
    name: str

    @property
    def model(self) -> str:
        """As the gateway knows it."""
        return f"ollama/{self.name}"

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        return f"Ollama at {self.url}"


LocalModel = GgufModel | OllamaModel


async def find_local_model(
    cache_dir: Path, *, choice: str | None = None, ollama_host: str | None = None
) -> LocalModel | None:
    """The local model that is there already; None when the default weights would have to be fetched.

    Args:
        cache_dir: The user's cache folder.
        choice: `QE_LOCAL_MODEL`: a GGUF file's path, or `ollama:NAME`.
        ollama_host: `OLLAMA_HOST`, as Ollama itself reads it.

    Raises:
        SettingsError: `choice` names no GGUF file, or a model that Ollama doesn't have.
        LocalModelUnavailable: The server that a file needs isn't installed.
    """
    if choice:
        return await _chosen(choice, ollama_host)
    if name := _preferred(await _ollama_models(ollama_url(ollama_host)) or []):
        return OllamaModel(ollama_url(ollama_host), name)
    path = cached_weights(cache_dir)
    return _served(path, "the default weights") if path else None


async def local_model(
    cache_dir: Path,
    *,
    choice: str | None = None,
    ollama_host: str | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] | None = None,
) -> LocalModel:
    """The local model, fetched if need be; see `find_local_model` and `download_weights`.

    Raises:
        SettingsError: `choice` is unusable.
        LocalModelUnavailable: There is none and none can be had.
    """
    found = await find_local_model(cache_dir, choice=choice, ollama_host=ollama_host)
    if found:
        return found
    _require_server()
    path = await download_weights(cache_dir, progress=progress, environment=environment)
    return _served(path, "the default weights")


def ollama_url(host: str | None) -> str:
    """Ollama's address from its own variable, which holds a host, a host and port, or a URL."""
    if not host:
        return OLLAMA_URL
    given = httpx.URL(host if "://" in host else f"http://{host}")
    port = given.port or (None if "://" in host else _OLLAMA_PORT)
    # 0.0.0.0 is what a server listens on, not what a client asks.
    name = "localhost" if given.host in ("", "0.0.0.0", "::") else given.host  # noqa: S104
    return str(given.copy_with(host=name, port=port)).rstrip("/")


async def _chosen(choice: str, ollama_host: str | None) -> LocalModel:
    if not choice.startswith(_OLLAMA_PREFIX):
        path = _gguf(choice)
        if path is None:
            raise SettingsError("QE_LOCAL_MODEL must be a readable GGUF file, or ollama:NAME")
        return _served(path, "QE_LOCAL_MODEL")
    name, url = choice.removeprefix(_OLLAMA_PREFIX), ollama_url(ollama_host)
    names = await _ollama_models(url)
    if names is None:
        raise LocalModelUnavailable(f"QE_LOCAL_MODEL asks for Ollama, and none answers at {url}: start it")
    for candidate in (name, f"{name}:latest"):
        if candidate in names:
            return OllamaModel(url, candidate)
    raise SettingsError(
        "QE_LOCAL_MODEL: Ollama has no such model (`ollama pull` gets one); "
        f"it has: {', '.join(names) or 'none'}"
    )


def _served(path: Path, origin: str) -> GgufModel:
    _require_server()
    return GgufModel(path.resolve(), origin)


def _require_server() -> None:
    if find_spec("xllamacpp") is None:
        raise LocalModelUnavailable(
            "the local model's server isn't installed: install qefleet[local], or start Ollama"
        )


def _gguf(name: str) -> Path | None:
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            return path if file.read(4) == b"GGUF" else None
    except OSError:
        return None


class _Tag(BaseModel):
    name: Annotated[str, StringConstraints(min_length=1)]


class _Tags(BaseModel):
    models: list[_Tag]


async def _ollama_models(url: str) -> list[str] | None:
    """Names of its models, newest first; None when no Ollama answers there."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_REACH_S) as client:
            response = await client.get(f"{url}/api/tags")
            response.raise_for_status()
        return [tag.name for tag in _Tags.model_validate_json(response.content).models]
    except (httpx.HTTPError, ValidationError):
        return None


def _preferred(names: list[str]) -> str | None:
    """One that is made for code, else the newest that writes text at all."""
    writers = [name for name in names if "embed" not in name and "rerank" not in name]
    return next((name for name in writers if "coder" in name or "code" in name), next(iter(writers), None))
