"""`qe up`: everything that is needed, in the foreground."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import NO_GO, AsJson, print_json, stderr, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from worker.services.service import Announce, Event
    from worker.services.state import Up
    from worker.settings import ChosenModel, Settings

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "qe up\n\n"
    "qe up --model local\n\n"
    "QE_TEMPORAL_PORT=7300 qe up --json\n\n"
    "QE_DATABASE_URL=postgresql://qe@db/qe TEMPORAL_ADDRESS=temporal:7233 qe up"
)


def up(
    model: Annotated[
        str | None,
        typer.Option(help="provider/name, local or none; QE_MODEL without it.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run Temporal with its UI, Postgres, the gateway and a worker, until Ctrl-C.

    What you have already is used instead: a TEMPORAL_ADDRESS or Temporal profile, a QE_DATABASE_URL, a
    QE_GATEWAY_URL. State is kept in the data folder (QE_DATA_DIR): runs that were open go on at the next
    start, whatever ended the last one. Exits 1 when the services are running already, and says where.
    """
    from worker.settings import Settings, resolve_model

    settings = Settings.load()
    raise typer.Exit(asyncio.run(_up(settings, resolve_model(settings, asked=model), as_json=as_json)))


async def _up(settings: Settings, model: ChosenModel, *, as_json: bool) -> int:
    from worker.services.state import AlreadyRunning

    console = stderr() if as_json else stdout()
    try:
        return await _serve(settings, model, console=console, as_json=as_json)
    except AlreadyRunning as error:
        if as_json:
            print_json({"running": False, "already": error.up and _as_json(error.up)})
        else:
            console.print(str(error), soft_wrap=True)
            if error.up:
                show_addresses(console, error.up)
        return NO_GO


async def _serve(settings: Settings, model: ChosenModel, *, console: Console, as_json: bool) -> int:
    from worker.cli.interrupts import on_interrupt
    from worker.cli.local_model import ensure_local_model
    from worker.services.embedded import EmbeddedServices

    services: EmbeddedServices | None = None
    task = asyncio.current_task()
    asked = asyncio.Event()
    started = False

    def stop() -> None:
        asked.set()
        console.print("stopping, in order; Ctrl-C again stops at once")
        if task and not started:
            task.cancel()

    def insist() -> None:
        if services:
            services.kill()

    with on_interrupt(stop, insist):
        try:
            if model.model == "local":
                model = replace(model, model=await ensure_local_model(settings, console=stderr()))
            services = EmbeddedServices(settings, model=model, announce=announcer(console))
            async with services:
                started = True
                if not asked.is_set():
                    _tell_ready(console, services.up, model, as_json=as_json)
                await asked.wait()
        except asyncio.CancelledError:
            if not asked.is_set():
                raise
    return 0


def announcer(console: Console) -> Announce:
    """Prints what happens to services, a line each."""
    from rich.markup import escape

    marks = {
        "ready": "[green]✓[/]",
        "restarted": "[green]✓[/]",
        "died": "[red]✗[/]",
        "notice": "[yellow]![/]",
    }

    def announce(event: Event) -> None:
        if mark := marks.get(event.kind):
            said = "is back, " if event.kind == "restarted" else ""
            console.print(f"{mark} {event.service:<11} {said}{escape(event.text)}", soft_wrap=True)

    return announce


def show_addresses(console: Console, running: Up) -> None:
    """Print where everything is."""
    from rich.markup import escape

    for name, address in running.addresses.shown().items():
        console.print(f"  {name:<11} {escape(address)}", soft_wrap=True)


def _tell_ready(console: Console, running: Up, model: ChosenModel, *, as_json: bool) -> None:
    if as_json:
        print_json({"running": True, **_as_json(running)})
        return
    from rich.markup import escape

    console.print(f"  {'model':<11} {model.model} ({escape(model.reason)})", soft_wrap=True)
    hint = f"qe run pipeline . (Ctrl-C here stops everything; logs in {_logs(running)})"
    console.print(f"[bold green]ready[/]: {hint}", soft_wrap=True)


def _logs(running: Up) -> str:
    return str(running.secret_file.parent / "logs")


def _as_json(running: Up) -> dict[str, Any]:
    return running.model_dump(mode="json", exclude={"addresses"}) | {"addresses": running.addresses.shown()}
