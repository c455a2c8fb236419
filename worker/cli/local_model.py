"""Has the local model on this machine before anything is started that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from worker.settings import Settings


async def ensure_local_model(settings: Settings, *, console: Console) -> str:
    """Find the local model, or download its weights: announced with their size, and shown as a bar.

    Returns:
        What `local` means here: `local` itself, or `ollama/NAME` where the user's Ollama serves it.

    Raises:
        LocalModelUnavailable: It can't be served here, or the weights can't be had.
        SettingsError: `QE_LOCAL_MODEL` names something that isn't there.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from qefleet.llm import local
    from qefleet.llm.weights import MODEL_NAME, SIZE_BYTES, weights_path

    if settings.models.local_url:
        return "local"
    cache, choice = settings.folders.cache, settings.models.local
    ollama_host = settings.environment.get("OLLAMA_HOST")
    if found := await local.find_local_model(cache, choice=choice, ollama_host=ollama_host):
        return found.model
    folder = weights_path(cache).parent
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("weights", total=SIZE_BYTES, visible=False)

        def report(done: int, total: int) -> None:
            if not bar.tasks[task].visible:
                bar.console.print(
                    f"downloading {MODEL_NAME}, {SIZE_BYTES / 1e9:.1f} GB, once, into {folder}",
                    soft_wrap=True,
                )
            bar.update(task, completed=done, total=total, visible=True)

        fetched = await local.local_model(
            cache, choice=choice, ollama_host=ollama_host, progress=report, environment=settings.environment
        )
    return fetched.model
