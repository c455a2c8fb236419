"""The settings of every process, read once from the environment and `.env`.

Nobody else looks at the environment: what a child process needs is handed to it from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import platformdirs
from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from qefleet.errors import SettingsError
from qefleet.llm.budgets import Period, ProjectBudget

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConnectConfig

TEMPORAL_PORT = 7233
UI_PORT = 8233
GATEWAY_PORT = 8234
LOCAL_MODEL_PORT = 8235

Tier = Literal["simple", "moderate", "complex", "critical"]


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider of models whose key may lie in the environment."""

    name: str
    variables: tuple[str, ...]
    """Variables that hold its key, the usual one first."""
    default_model: str
    """Taken when its key is all that the user has set."""


PROVIDERS = (
    Provider(name="anthropic", variables=("ANTHROPIC_API_KEY",), default_model="claude-sonnet-4-5"),
    Provider(name="openai", variables=("OPENAI_API_KEY",), default_model="gpt-4.1-mini"),
    Provider(name="openrouter", variables=("OPENROUTER_API_KEY",), default_model="openai/gpt-4.1-mini"),
    Provider(name="google", variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"), default_model="gemini-2.5-flash"),
    Provider(name="deepseek", variables=("DEEPSEEK_API_KEY",), default_model="deepseek-chat"),
    Provider(name="groq", variables=("GROQ_API_KEY",), default_model="llama-3.3-70b-versatile"),
    Provider(
        name="nvidia_nim", variables=("NVIDIA_NIM_API_KEY",), default_model="meta/llama-3.3-70b-instruct"
    ),
    Provider(name="perplexity", variables=("PERPLEXITY_API_KEY",), default_model="sonar"),
)
"""In the order in which a key that is present is taken."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where state is kept."""

    data: Path
    """Databases, logs, workspaces: what must survive."""
    cache: Path
    """Model weights: what can be fetched again."""

    @property
    def logs(self) -> Path:
        """One file a service."""
        return self.data / "logs"


@dataclass(frozen=True, kw_only=True)
class Models:
    """Which model is asked."""

    chosen: str | None
    """`QE_MODEL`: `provider/name`, `local` or `none`; None when the user hasn't said."""
    tiers: Mapping[Tier, str]
    """The router's own choices, where `QE_MODEL_SIMPLE` and its siblings are set."""
    local: str | None
    """`QE_LOCAL_MODEL`: a GGUF file, or `ollama:NAME`."""
    local_url: str | None
    """`QE_LOCAL_MODEL_URL`: an OpenAI-compatible server that stands for `local`."""
    prices: Path | None
    embeddings: str
    """`QE_EMBEDDINGS`: `local` (where it is installed), `none`, or `provider/name`."""
    project_budget: ProjectBudget | None
    """`QE_PROJECT_BUDGET_USD` in each `QE_PROJECT_BUDGET_PERIOD`."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The gateway's address, and what its callers present."""

    url: str | None
    """A gateway that runs elsewhere; without it one is started here."""
    host: str
    secret: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports that the user named; None leaves the choice to us."""

    temporal: int | None
    ui: int | None
    gateway: int | None
    local_model: int | None


@dataclass(frozen=True, kw_only=True)
class Ci:
    """The CI in which a command is run, as it says itself by its own variables."""

    system: Literal["github", "gitlab"] | None
    summary: Path | None = None
    """`GITHUB_STEP_SUMMARY`: Markdown that is shown on the run's page."""
    output: Path | None = None
    """`GITHUB_OUTPUT`: `name=value` lines for later steps."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a worker of this build joins those that are there."""

    build_id: str | None
    """A name for this build in place of version and commit."""
    make_current: bool
    """New runs go to this build from the worker's start on."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that can be set. `Settings.load()` is the only reader of the environment."""

    database_url: str | None = field(repr=False)
    """`postgresql://…`; without it Postgres is embedded."""
    folders: Folders
    models: Models
    gateway: Gateway
    ports: Ports
    rollout: Rollout
    unsafe_no_sandbox: bool
    learning: bool
    """`QE_LEARNING`: strategies are chosen by what was rewarded, where a run doesn't say otherwise."""
    allowed_hosts: frozenset[str]
    """`QE_ALLOWED_HOSTS`: `host` or `host:port`, with commas between: whom agents may send requests to."""
    ci: Ci
    environment: Mapping[str, str] = field(repr=False)
    """Environment and `.env` as they were: what children's environments are picked from."""

    @classmethod
    def load(cls, *, env_file: Path | None = Path(".env")) -> Settings:
        """Read the environment, and below it `env_file` where there is one.

        Raises:
            SettingsError: A variable has an unusable value; the message names each such variable.
        """
        dotenv = {k: v for k, v in dotenv_values(env_file).items() if v} if env_file else {}
        try:
            read = _Environment(_env_file=env_file)  # pyright: ignore[reportCallIssue] - a keyword of BaseSettings that its synthesized signature hides
        except ValidationError as error:
            raise SettingsError(_explain(error)) from error
        return cls(
            database_url=read.database_url,
            folders=Folders(
                data=_folder(read.data_dir, platformdirs.user_data_dir("qefleet")),
                cache=_folder(read.cache_dir, platformdirs.user_cache_dir("qefleet")),
            ),
            models=Models(
                chosen=read.model,
                tiers=_tiers(read),
                local=read.local_model,
                local_url=read.local_model_url,
                prices=_folder(read.prices, "") if read.prices else None,
                embeddings=read.embeddings,
                project_budget=(
                    ProjectBudget(read.project_budget_usd, read.project_budget_period)
                    if read.project_budget_usd
                    else None
                ),
            ),
            gateway=Gateway(
                url=read.gateway_url.rstrip("/") if read.gateway_url else None,
                host=read.gateway_host,
                secret=read.gateway_secret.get_secret_value() if read.gateway_secret else None,
            ),
            ports=Ports(
                temporal=read.temporal_port,
                ui=read.ui_port,
                gateway=read.gateway_port,
                local_model=read.local_model_port,
            ),
            rollout=Rollout(build_id=read.build_id, make_current=read.make_current),
            unsafe_no_sandbox=read.unsafe_no_sandbox,
            learning=read.learning == "on",
            allowed_hosts=frozenset(part.strip() for part in read.allowed_hosts.split(",") if part.strip()),
            ci=_ci(os.environ),
            environment=dotenv | dict(os.environ),
        )

    def temporal(self) -> ClientConnectConfig:
        """How to connect to Temporal, as the Temporal CLI would: environment over TOML profile.

        Without `target_host` the user has named no server, and the embedded one is meant.

        Raises:
            SettingsError: The profile doesn't exist or the file can't be read.
        """
        from temporalio.envconfig import ClientConfig  # noqa: PLC0415 - 0.6 s that `qe --help` needn't wait

        try:
            return ClientConfig.load_client_connect_config(override_env_vars=dict(self.environment))
        except RuntimeError as error:  # the bridge's ConfigError is one, and has no importable name
            raise SettingsError(
                f"TEMPORAL_CONFIG_FILE or TEMPORAL_PROFILE: {error}; "
                "see `temporal config list`, or unset the variable"
            ) from error

    def keyed_providers(self) -> list[Provider]:
        """Providers whose key is in the environment, in the order of preference."""
        return [p for p in PROVIDERS if any(self.environment.get(v) for v in p.variables)]


def nobody_answers(settings: Settings) -> bool:
    """Whether a run that waits for a person waits in vain: the Temporal server ends with the job.

    Raises:
        SettingsError: As `Settings.temporal`.
    """
    return "target_host" not in settings.temporal()


@dataclass(frozen=True, kw_only=True)
class ChosenModel:
    """The model that will be asked, and why."""

    model: str
    reason: str
    """One line for people."""


def resolve_model(settings: Settings, *, asked: str | None = None) -> ChosenModel:
    """Choose the model: what was asked for, `QE_MODEL`, a provider whose key is there, or none.

    Args:
        settings: As loaded.
        asked: `--model` of the command line.

    Raises:
        SettingsError: `asked` is no model's name.
    """
    if asked is not None:
        return ChosenModel(model=check_model(asked, name="--model"), reason="as asked")
    if settings.models.chosen is not None:
        return ChosenModel(model=settings.models.chosen, reason="QE_MODEL")
    for provider in settings.keyed_providers():
        variable = next(v for v in provider.variables if settings.environment.get(v))
        return ChosenModel(
            model=f"{provider.name}/{provider.default_model}", reason=f"{variable} is set; QE_MODEL overrides"
        )
    return ChosenModel(
        model="none",
        reason="no model is set: QE_MODEL=local runs a small one on this machine, "
        "OPENAI_API_KEY, ANTHROPIC_API_KEY or another provider's key with QE_MODEL=provider/name a large one",
    )


def check_model(text: str, *, name: str) -> str:
    """Return `text` if it is a model's name.

    Raises:
        SettingsError: It isn't; the message starts with `name`.
    """
    try:
        return _model(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from error


def _model(text: str) -> str:
    provider, slash, name = text.partition("/")
    if text in ("local", "none") or (
        slash and provider.replace("_", "").isalnum() and name.strip() == name != ""
    ):
        return text
    raise ValueError("should be `local`, `none` or `provider/name`, such as `openai/gpt-4.1-mini`")


def _embeddings(text: str) -> str:
    provider, slash, name = text.partition("/")
    known = sorted({"ollama", *(p.name for p in PROVIDERS)} - {"anthropic"})  # which has none
    if text in ("local", "none") or (slash and provider in known and name.strip() == name != ""):
        return text
    raise ValueError(
        "should be `local`, `none` or `provider/name`, such as `openai/text-embedding-3-small`; "
        f"providers are {', '.join(known)}"
    )


def _database_url(text: str) -> str:
    if text.startswith(("postgresql://", "postgres://")):
        return text
    raise ValueError("should look like postgresql://user@host:5432/database")


def _http_url(text: str) -> str:
    if text.startswith(("http://", "https://")):
        return text
    raise ValueError("should be an http:// or https:// address")


Port = Annotated[int, Field(ge=1, le=65535)]
BuildId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")]
ModelName = Annotated[str, AfterValidator(_model)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


class _Environment(BaseSettings):
    """The variables as they are written, `QE_` before each name."""

    model_config = SettingsConfigDict(
        env_prefix="QE_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: Annotated[str, AfterValidator(_database_url)] | None = None
    data_dir: Path | None = None
    cache_dir: Path | None = None
    model: ModelName | None = None
    model_simple: ModelName | None = None
    model_moderate: ModelName | None = None
    model_complex: ModelName | None = None
    model_critical: ModelName | None = None
    gateway_url: HttpUrl | None = None
    gateway_host: str = "127.0.0.1"
    gateway_port: Port | None = None
    gateway_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    local_model: Annotated[str, StringConstraints(min_length=1)] | None = None
    local_model_url: HttpUrl | None = None
    local_model_port: Port | None = None
    unsafe_no_sandbox: bool = False
    learning: Literal["on", "off"] = "off"
    allowed_hosts: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:\[\], -]*$")] = ""
    prices: Path | None = None
    embeddings: Annotated[str, AfterValidator(_embeddings)] = "local"
    project_budget_usd: Annotated[Decimal, Field(gt=0, le=1_000_000)] | None = None
    project_budget_period: Period = "month"
    build_id: BuildId | None = None
    make_current: bool = False
    temporal_port: Port | None = None
    ui_port: Port | None = None


def _tiers(read: _Environment) -> Mapping[Tier, str]:
    named: dict[Tier, str | None] = {
        "simple": read.model_simple,
        "moderate": read.model_moderate,
        "complex": read.model_complex,
        "critical": read.model_critical,
    }
    return {tier: model for tier, model in named.items() if model is not None}


def _ci(environment: Mapping[str, str]) -> Ci:
    if environment.get("GITHUB_ACTIONS") == "true":
        files = {name: environment.get(f"GITHUB_{name}") for name in ("STEP_SUMMARY", "OUTPUT")}
        paths = {name: Path(file) if file else None for name, file in files.items()}
        return Ci(system="github", summary=paths["STEP_SUMMARY"], output=paths["OUTPUT"])
    return Ci(system="gitlab" if environment.get("GITLAB_CI") == "true" else None)


def _folder(given: Path | None, default: str) -> Path:
    return (given if given is not None else Path(default)).expanduser().absolute()


def _explain(error: ValidationError) -> str:
    """Each variable with what is wrong with it, and never its value."""

    def line(details: Any) -> str:
        name = "QE_" + "_".join(str(part) for part in details["loc"]).upper()
        return f"{name}: {details['msg'].removeprefix('Value error, ')}"

    return "; ".join(line(details) for details in error.errors(include_input=False, include_context=False))
