"""What each child process finds in its environment: what it needs, and never a key that it doesn't."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from worker.settings import PROVIDERS, Settings

_EVERYWHERE = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TZ", "TMPDIR", "XDG_*", "NO_COLOR")
_TO_FETCH = (
    "*_PROXY", "*_proxy", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "UV_*", "PIP_*", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_*", "GIT_SSL_*",
)  # fmt: skip
"""For targets that are fetched and environments that are built: proxies, indexes, git's own."""
_TEMPORAL = ("TEMPORAL_*",)
_AGENTS = ("PYTHONPATH",)
"""A worker finds a user's own agents where `qe` does; the gateway, which has the keys, runs none."""
_PROVIDER_MORE = ("*_BASE_URL", "OLLAMA_HOST", "OLLAMA_API_KEY")
_TUNING = ("QE_*",)
"""Our own variables, but for those that hold a secret or an address: these are handed over by name."""
_BY_NAME = ("QE_DATABASE_URL", "QE_GATEWAY_*", "QE_DATA_DIR", "QE_CACHE_DIR", "QE_MODEL", "QE_LOCAL_MODEL_*")


def plain_environment(settings: Settings) -> dict[str, str]:
    """For programs that need nothing of ours."""
    return _pick(settings, _EVERYWHERE)


def worker_environment(settings: Settings) -> dict[str, str]:
    """For workers: whatever fetches targets and reaches Temporal, and no provider's key."""
    return _pick(
        settings, _EVERYWHERE + _TO_FETCH + _TEMPORAL + _AGENTS + _TUNING, but=_BY_NAME + provider_variables()
    )


def gateway_environment(settings: Settings) -> dict[str, str]:
    """For the gateway, which alone holds the providers' keys."""
    return _pick(
        settings,
        (*_EVERYWHERE, "*_PROXY", "*_proxy", "SSL_CERT_*", *_TUNING, *provider_variables()),
        but=_BY_NAME,
    )


def provider_variables() -> tuple[str, ...]:
    """Variables by which providers are reached, as patterns."""
    return tuple(v for provider in PROVIDERS for v in provider.variables) + _PROVIDER_MORE


def _pick(settings: Settings, patterns: tuple[str, ...], *, but: tuple[str, ...] = ()) -> dict[str, str]:
    found: Mapping[str, str] = settings.environment
    return {k: v for k, v in found.items() if _matches(k, patterns) and not _matches(k, but)}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
