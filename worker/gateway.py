"""The gateway's process: reads its settings, opens the ledger, serves until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Literal

import uvicorn

from qefleet.errors import QeError, SettingsError
from qefleet.llm.gateway import STOP_GRACE_S, UPSTREAM_TIMEOUT_S, Gateway
from qefleet.llm.ledger import LEASE_S, Ledger
from qefleet.llm.prices import load_prices
from qefleet.llm.upstream import load_upstreams
from qefleet.sql.database import open_pool
from worker.settings import GATEWAY_PORT, Settings


async def serve(settings: Settings) -> None:
    """Run the gateway until SIGTERM or SIGINT.

    Raises:
        SettingsError: The database or the secret isn't named, or a setting is unusable.
        StoreUnavailable: Postgres can't be reached.
    """
    if not settings.database_url:
        raise SettingsError("QE_DATABASE_URL: the gateway needs a database; `qe up` brings both")
    if not settings.gateway.secret:
        raise SettingsError("QE_GATEWAY_SECRET: set the secret that the workers present, or use `qe up`")
    prices = load_prices(settings.models.prices)
    async with await open_pool(settings.database_url) as pool:
        gateway = Gateway(
            Ledger(
                pool,
                on_unknown=_on_unknown(settings),
                lease_s=_seconds(settings, "QE_LEASE_S", LEASE_S),
                project_budget=settings.models.project_budget,
            ),
            upstreams=load_upstreams(settings.environment),
            prices=prices,
            secret=settings.gateway.secret,
            upstream_timeout_s=_seconds(settings, "QE_UPSTREAM_TIMEOUT_S", UPSTREAM_TIMEOUT_S),
        )
        config = uvicorn.Config(
            gateway.app(),
            host=settings.gateway.host,
            port=settings.ports.gateway or GATEWAY_PORT,
            access_log=False,
            log_level="warning",
            lifespan="on",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(STOP_GRACE_S),
        )
        await uvicorn.Server(config).serve()


def _on_unknown(settings: Settings) -> Literal["resend", "fail"]:
    match settings.environment.get("QE_ON_UNKNOWN") or "resend":
        case "resend":
            return "resend"
        case "fail":
            return "fail"
        case _:
            raise SettingsError("QE_ON_UNKNOWN: must be `resend` or `fail`")


def _seconds(settings: Settings, name: str, default: float) -> float:
    text = settings.environment.get(name)
    try:
        seconds = float(text) if text else default
    except ValueError as error:
        raise SettingsError(f"{name}: must be a number of seconds") from error
    if not 0 < seconds < 86_400:  # noqa: PLR2004 - a day
        raise SettingsError(f"{name}: must be between 0 and 86400 seconds")
    return seconds


def main() -> None:
    """Run the process; a setting that is wrong is told in one line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines name URLs, which may hold credentials
    try:
        asyncio.run(serve(Settings.load(env_file=Path(".env"))))
    except QeError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201 - the process's only way to say it
        sys.exit(2 if isinstance(error, SettingsError) else 3)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
