"""The providers that the gateway forwards to: where they are, which key they want, what they speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Dialect = Literal["openai", "anthropic"]

EMBEDDINGS = "embeddings"
OPERATIONS: Mapping[Dialect, tuple[str, ...]] = {
    "openai": ("chat/completions", EMBEDDINGS),
    "anthropic": ("messages",),
}
"""What each dialect is asked at, below the provider's base URL."""
ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True)
class Upstream:
    """One provider, as this gateway reaches it."""

    name: str
    base_url: str
    dialect: Dialect = "openai"
    key: str | None = field(default=None, repr=False)
    key_variable: str | None = None
    """Where the key is expected; None where no key is needed."""
    direct: bool = False
    """On this machine: proxies of the environment don't apply."""

    def url(self, operation: str) -> str:
        """Where a call is posted, which is one of the dialect's `OPERATIONS`."""
        return f"{self.base_url}/{operation}"

    def credentials(self) -> dict[str, str]:
        """The headers that carry the key, and what belongs to them."""
        if self.dialect == "anthropic":
            return {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": self.key} if self.key else {})
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    def redact(self, body: bytes) -> bytes:
        """Take the key out of what the provider says: some repeat it in their errors."""
        return body.replace(self.key.encode(), b"[key]") if self.key else body


@dataclass(frozen=True)
class _Known:
    name: str
    url: str
    keys: tuple[str, ...]
    base: str
    """Variable that overrides the URL."""


_KNOWN = (
    _Known("openai", "https://api.openai.com/v1", ("OPENAI_API_KEY",), "OPENAI_BASE_URL"),
    _Known("openrouter", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), "OPENROUTER_BASE_URL"),
    _Known("groq", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",), "GROQ_BASE_URL"),
    _Known("deepseek", "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), "DEEPSEEK_BASE_URL"),
    _Known(
        "nvidia_nim", "https://integrate.api.nvidia.com/v1", ("NVIDIA_NIM_API_KEY",), "NVIDIA_NIM_BASE_URL"
    ),
    _Known("perplexity", "https://api.perplexity.ai", ("PERPLEXITY_API_KEY",), "PERPLEXITY_BASE_URL"),
    _Known(
        "google",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "GEMINI_BASE_URL",
    ),
)
"""The OpenAI-compatible providers that lionagi 0.36 knows, at its own addresses for them."""


def load_upstreams(environment: Mapping[str, str]) -> dict[str, Upstream]:
    """All providers, by name, with the keys and addresses of an environment.

    A provider whose address was overridden needs no key: it is a server of the user's own.
    """
    found = {known.name: _read(known, environment) for known in _KNOWN}
    found["gemini"] = found["google"]
    anthropic_url = environment.get("ANTHROPIC_BASE_URL")
    found["anthropic"] = Upstream(
        name="anthropic",
        base_url=_with_v1(anthropic_url or "https://api.anthropic.com"),
        dialect="anthropic",
        key=environment.get("ANTHROPIC_API_KEY") or None,
        key_variable=None if anthropic_url else "ANTHROPIC_API_KEY",
    )
    ollama = environment.get("OLLAMA_HOST") or "localhost:11434"
    found["ollama"] = Upstream(
        name="ollama",
        base_url=_with_v1(ollama if "://" in ollama else f"http://{ollama}"),
        key=environment.get("OLLAMA_API_KEY") or None,
        direct=True,
    )
    if local := environment.get("QE_LOCAL_MODEL_URL"):
        found["local"] = Upstream(name="local", base_url=_with_v1(local), direct=True)
    return found


def _read(known: _Known, environment: Mapping[str, str]) -> Upstream:
    own = environment.get(known.base)
    return Upstream(
        name=known.name,
        base_url=(own or known.url).rstrip("/"),
        key=next((environment[name] for name in known.keys if environment.get(name)), None),
        key_variable=None if own else known.keys[0],
    )


def _with_v1(url: str) -> str:
    """These providers' own tools name the server without the path's first part; both spellings work here."""
    url = url.rstrip("/")
    return url if url.endswith("/v1") else f"{url}/v1"
