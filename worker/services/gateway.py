"""The gateway, which alone holds the providers' keys, as a supervised service."""

from __future__ import annotations

import sys
from pathlib import Path

from worker.services.environment import gateway_environment
from worker.services.health import answers
from worker.services.ports import HOST
from worker.services.service import Service
from worker.settings import Settings


def gateway_service(
    settings: Settings, *, port: int, secret: str, database_url: str, local_model_url: str, cwd: Path
) -> Service:
    """The gateway on this port."""
    env = gateway_environment(settings) | {
        "QE_DATABASE_URL": database_url,
        "QE_GATEWAY_HOST": settings.gateway.host,
        "QE_GATEWAY_PORT": str(port),
        "QE_GATEWAY_SECRET": secret,
        "QE_LOCAL_MODEL_URL": local_model_url,
        "QE_DATA_DIR": str(settings.folders.data),
        "QE_CACHE_DIR": str(settings.folders.cache),
    }

    if prices := settings.models.prices:
        env["QE_PRICES"] = str(prices)  # absolute: the gateway runs in another folder

    async def ready(_pid: int) -> bool:
        return await answers(f"http://{HOST}:{port}/healthz")

    return Service(
        name="gateway",
        argv=[sys.executable, "-P", "-m", "worker.gateway"],
        env=env,
        cwd=cwd,
        ready=ready,
        address=f"http://{HOST}:{port}",
        stage=1,
    )
