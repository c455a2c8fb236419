"""`qe worker`, `qe gateway`, `qe migrate`: the single processes, for systems of more than one machine."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import AsJson, print_json, stdout

if TYPE_CHECKING:
    from worker.settings import Settings

WORKER_EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "TEMPORAL_ADDRESS=temporal:7233 QE_DATABASE_URL=postgresql://qe@db/qe "
    "QE_GATEWAY_URL=http://localhost:8234 QE_GATEWAY_SECRET=… QE_MODEL=openai/gpt-4.1-mini qe worker\n\n"
    "qe worker --make-current"
)
GATEWAY_EXAMPLES = (
    "[bold]Example[/]\n\n"
    "QE_DATABASE_URL=postgresql://qe@db/qe QE_GATEWAY_SECRET=… OPENAI_API_KEY=… qe gateway"
)
MIGRATE_EXAMPLES = "[bold]Example[/]\n\nQE_DATABASE_URL=postgresql://qe@db/qe qe migrate"


def worker(
    make_current: Annotated[
        bool,
        typer.Option("--make-current", help="Send new runs to this build; open ones stay where they are."),
    ] = False,
) -> None:
    """Run a worker in the foreground.

    It needs QE_DATABASE_URL, QE_GATEWAY_URL, QE_GATEWAY_SECRET and Temporal's own settings, and never gets
    a provider's key: what it starts with holds none, even where this shell's environment does.
    """
    from worker.services.environment import worker_environment
    from worker.settings import Settings, resolve_model

    settings = Settings.load()
    env = worker_environment(settings) | _named(settings)
    # The gateway holds the keys, so the worker couldn't see which provider has one.
    env["QE_MODEL"] = resolve_model(settings).model
    if make_current:
        env["QE_MAKE_CURRENT"] = "1"
    _become("worker.main", env, settings)


def gateway() -> None:
    """Run the gateway in the foreground: it alone holds the providers' keys, and the ledger of calls."""
    from worker.services.environment import gateway_environment
    from worker.settings import Settings

    settings = Settings.load()
    _become("worker.gateway", gateway_environment(settings) | _named(settings), settings)


def migrate(as_json: AsJson = False) -> None:
    """Bring the database in QE_DATABASE_URL to the schema of this version. Safe to repeat.

    Registers the fleet's search attributes with the Temporal of TEMPORAL_ADDRESS or the Temporal profile, and
    says so where it can't; each worker tries it again when it starts.
    """
    from qefleet.errors import SettingsError
    from qefleet.sql import migrate as migrations
    from worker.settings import Settings

    settings = Settings.load()
    if not settings.database_url:
        raise SettingsError("QE_DATABASE_URL isn't set; the embedded database is migrated by `qe up` itself")
    applied = asyncio.run(migrations.migrate(settings.database_url))
    attributes = asyncio.run(_register_search_attributes(settings))
    if as_json:
        print_json({"applied": applied, "search_attributes": attributes})
        return
    stdout().print(f"applied {', '.join(applied)}" if applied else "nothing to do: the schema is up to date")
    stdout().print(f"search attributes: {_told(attributes)}", soft_wrap=True, markup=False)


async def _register_search_attributes(settings: Settings) -> dict[str, Any]:
    from temporalio.service import RPCError

    from worker.search_attributes import register_search_attributes
    from worker.services.connection import connect

    config = settings.temporal()
    outcome: dict[str, Any] = {"temporal": config.get("target_host"), "registered": [], "error": None}
    if outcome["temporal"] is None:
        return outcome
    try:
        outcome["registered"] = await register_search_attributes(await connect(config))
    except (RPCError, RuntimeError) as error:  # RuntimeError: the bridge couldn't connect
        outcome["error"] = error.message if isinstance(error, RPCError) else str(error)
    return outcome


def _told(attributes: dict[str, Any]) -> str:
    temporal, registered, error = (attributes[key] for key in ("temporal", "registered", "error"))
    if temporal is None:
        return "TEMPORAL_ADDRESS isn't set; the embedded Temporal's are registered by `qe up` itself"
    if error:
        return f"not registered with {temporal} ({error}); each worker tries again when it starts"
    if registered:
        return f"registered {', '.join(registered)} with {temporal}"
    return f"nothing to do: {temporal} has them"


def _named(settings: Settings) -> dict[str, str]:
    """Our own variables as they were given, those with secrets too: both processes need them."""
    return {k: v for k, v in settings.environment.items() if k.startswith("QE_")}


def _become(module: str, env: dict[str, str], settings: Settings) -> None:
    """Run the module in this process, in a folder without a `.env` that libraries might read."""
    settings.folders.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(settings.folders.data)
    os.execve(sys.executable, [sys.executable, "-P", "-m", module], env)  # noqa: S606 - becoming it is the point
