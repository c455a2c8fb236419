"""The local model's server, as a supervised service."""

from __future__ import annotations

from pathlib import Path

from qefleet.llm.local import GgufModel, find_local_model
from qefleet.llm.local_server import command
from worker.services.environment import plain_environment
from worker.services.health import answers
from worker.services.ports import HOST
from worker.services.service import Service
from worker.settings import Settings


async def find_weights(settings: Settings) -> Path | None:
    """The file that a server of ours would serve; None when there is none here, or Ollama serves the model.

    Raises:
        SettingsError: `QE_LOCAL_MODEL` names something that isn't there.
        LocalModelUnavailable: The server isn't installed.
    """
    found = await find_local_model(
        settings.folders.cache,
        choice=settings.models.local,
        ollama_host=settings.environment.get("OLLAMA_HOST"),
    )
    return found.path if isinstance(found, GgufModel) else None


def local_model_service(settings: Settings, *, weights: Path, port: int, cwd: Path) -> Service:
    """llama.cpp's server for these weights, on this port."""

    async def ready(_pid: int) -> bool:
        return await answers(f"http://{HOST}:{port}/health")

    return Service(
        name="local-model",
        argv=command(weights, port=port, host=HOST),
        env=plain_environment(settings),
        cwd=cwd,
        ready=ready,
        address=f"http://{HOST}:{port} ({weights.name})",
        start_timeout_s=180.0,
        stop_grace_s=3.0,
    )
