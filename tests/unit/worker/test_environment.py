from __future__ import annotations

import pytest

from worker.services.environment import gateway_environment, plain_environment, worker_environment
from worker.settings import Settings

_SECRETS = {
    "OPENAI_API_KEY": "canary-openai",
    "ANTHROPIC_API_KEY": "canary-anthropic",
    "GEMINI_API_KEY": "canary-gemini",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "GITHUB_TOKEN": "canary-github",
    "QE_DATABASE_URL": "postgresql://u:canary-database@h/d",
    "QE_GATEWAY_SECRET": "canary-gateway-secret",
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in _SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TEMPORAL_API_KEY", "for-temporal")
    monkeypatch.setenv("UV_INDEX_URL", "https://index")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://models")
    return Settings.load(env_file=None)


def test_worker_gets_no_providers_key(settings: Settings) -> None:
    """The worker runs beside untrusted code: what it can't read, that code can't."""
    environment = worker_environment(settings)

    assert "canary" not in repr(environment)
    assert environment["TEMPORAL_API_KEY"] == "for-temporal"
    assert environment["UV_INDEX_URL"] == "https://index"


def test_gateway_gets_the_keys_and_no_other_secret(settings: Settings) -> None:
    """Keys and base URLs of providers, and nothing of clouds, forges or Temporal."""
    environment = gateway_environment(settings)

    assert {name for name, value in environment.items() if "canary" in value} == {
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
    }
    assert environment["OPENAI_BASE_URL"] == "https://models"
    assert "TEMPORAL_API_KEY" not in environment


def test_other_children_get_nothing_of_ours(settings: Settings) -> None:
    """Temporal and the model server need a PATH and a HOME."""
    environment = plain_environment(settings)

    assert "PATH" in environment
    assert not [name for name in environment if name.startswith(("QE_", "TEMPORAL_", "OPENAI_", "UV_"))]
