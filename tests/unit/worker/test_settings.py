from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from qefleet.errors import SettingsError
from qefleet.llm.budgets import ProjectBudget
from worker.settings import Ci, Settings, resolve_model


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest finds it
    for name in list(os.environ):
        if name.startswith(("QE_", "TEMPORAL_")) or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", "/dev/null")


def test_env_file_is_read_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says goes before what `.env` says."""
    env_file = tmp_path / ".env"
    env_file.write_text("QE_MODEL=openai/from-file\nQE_UI_PORT=8300\nGROQ_API_KEY=from-file\n")
    monkeypatch.setenv("QE_MODEL", "openai/from-environment")

    settings = Settings.load(env_file=env_file)

    assert settings.models.chosen == "openai/from-environment"
    assert settings.ports.ui == 8300
    assert [provider.name for provider in settings.keyed_providers()] == ["groq"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QE_TEMPORAL_PORT", "70000"),
        ("QE_UI_PORT", "http"),
        ("QE_MODEL", "gpt"),
        ("QE_MODEL_COMPLEX", "/x"),
        ("QE_EMBEDDINGS", "minilm"),
        ("QE_EMBEDDINGS", "anthropic/claude-sonnet-4-5"),
        ("QE_DATABASE_URL", "mysql://secret-value@h/d"),
        ("QE_GATEWAY_URL", "secret-value:80"),
        ("QE_GATEWAY_SECRET", "secret-value"),
        ("QE_UNSAFE_NO_SANDBOX", "secret-value"),
        ("QE_PROJECT_BUDGET_USD", "0"),
        ("QE_PROJECT_BUDGET_PERIOD", "week"),
    ],
)
def test_wrong_value_is_refused_by_its_variables_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable and doesn't repeat the value."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=rf"^{name}: ") as caught:
        Settings.load(env_file=None)
    assert "secret-value" not in str(caught.value)


def test_project_budget_is_a_months_unless_it_says_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """In dollars as they were written; without an amount there is none."""
    monkeypatch.setenv("QE_PROJECT_BUDGET_PERIOD", "day")
    none = Settings.load(env_file=None).models.project_budget
    monkeypatch.setenv("QE_PROJECT_BUDGET_USD", "0.10")
    a_day = Settings.load(env_file=None).models.project_budget
    monkeypatch.delenv("QE_PROJECT_BUDGET_PERIOD")
    a_month = Settings.load(env_file=None).models.project_budget

    assert (none, a_day, a_month) == (
        None,
        ProjectBudget(Decimal("0.10"), "day"),
        ProjectBudget(Decimal("0.10"), "month"),
    )


def test_secrets_are_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that end up in a log tell no secret."""
    monkeypatch.setenv("QE_GATEWAY_SECRET", "canary-canary-canary")
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.setenv("QE_DATABASE_URL", "postgresql://u:canary@h/d")

    assert "canary" not in repr(Settings.load(env_file=None))


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """`QE_MODEL= qe up` is `qe up`."""
    monkeypatch.setenv("QE_MODEL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "")

    assert resolve_model(Settings.load(env_file=None)).model == "none"


def test_model_comes_from_the_first_provider_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is there is enough; the choice is explained by its variable, never its value."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary")

    chosen = resolve_model(Settings.load(env_file=None))

    assert chosen.model.startswith("openai/")
    assert "OPENAI_API_KEY" in chosen.reason
    assert "canary" not in chosen.reason


def test_asked_model_goes_over_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model` goes over QE_MODEL, which goes over keys."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("QE_MODEL", "local")
    settings = Settings.load(env_file=None)

    assert resolve_model(settings).model == "local"
    assert resolve_model(settings, asked="none").model == "none"


def test_temporal_profile_is_shared_with_the_temporal_cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address and namespace come from the TOML file that the CLI reads; the environment goes over it."""
    profile = tmp_path / "temporal.toml"
    profile.write_text('[profile.default]\naddress = "there:7233"\nnamespace = "qe"\n')
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(profile))
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "other")

    assert Settings.load(env_file=None).temporal() == {"target_host": "there:7233", "namespace": "other"}


def test_unknown_temporal_profile_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt profile is told, not ignored."""
    monkeypatch.setenv("TEMPORAL_PROFILE", "nope")

    with pytest.raises(SettingsError, match="nope"):
        Settings.load(env_file=None).temporal()


@pytest.mark.parametrize(
    ("environment", "ci"),
    [
        ({}, Ci(system=None)),
        ({"GITHUB_ACTIONS": "false", "GITHUB_OUTPUT": "/x"}, Ci(system=None)),
        ({"GITLAB_CI": "true"}, Ci(system="gitlab")),
        (
            {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": "/o", "GITHUB_STEP_SUMMARY": "/s"},
            Ci(system="github", summary=Path("/s"), output=Path("/o")),
        ),
        ({"GITHUB_ACTIONS": "true"}, Ci(system="github")),
    ],
)
def test_ci_is_known_by_its_own_variables(
    environment: dict[str, str], ci: Ci, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As GitHub and GitLab set them."""
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert Settings.load(env_file=None).ci == ci
