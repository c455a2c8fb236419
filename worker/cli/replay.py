"""`qe replay`: would these runs go on with the installed version?"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import GO, NO_GO, AsJson, print_json, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from temporalio.client import Client, WorkflowHistory

    from worker.settings import Settings

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "qe replay\n\n"
    "qe replay --move\n\n"
    'qe replay --query \'WorkflowType = "Pipeline" AND QeTarget = "pypi:tabulate==0.10.0"\'\n\n'
    "temporal workflow show --workflow-id qe-1 --output json > qe-1.json\n\n"
    "qe replay qe-1.json"
)
_HINT = (
    "what to do: keep a worker of the build that such a run began with until it ends, or start it over with "
    "`temporal workflow reset --type FirstWorkflowTask --reason upgrade --workflow-id …`, or end it with "
    "`temporal workflow terminate --workflow-id …`; docs/rollout.md tells more"
)


def replay(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Histories, as `temporal workflow show --output json` writes them.",
            show_default=False,
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            help="Runs on the server, as `temporal workflow list --query` finds them; without it and without "
            "FILE all open runs of the fleet.",
            show_default=False,
        ),
    ] = None,
    move: Annotated[
        bool,
        typer.Option(
            "--move", help="Move open runs whose build has no worker to the current build, if they replay."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay the histories of runs against the installed version: would they go on with it?

    One line a run. Nothing is run and, without --move, nothing changed. Exits 1 when a run wouldn't go on.
    """
    from qefleet.errors import UsageError
    from worker.settings import Settings

    if move and (files or query):
        raise UsageError("--move: goes alone; it looks at all open runs")
    if files and query:
        raise UsageError("--query: goes without FILE")
    settings = Settings.load()
    if move:
        raise typer.Exit(asyncio.run(_move(settings, as_json=as_json)))
    raise typer.Exit(asyncio.run(_replay(settings, files or (), query, as_json=as_json)))


async def _replay(settings: Settings, files: Sequence[Path], query: str | None, *, as_json: bool) -> int:
    from rich.markup import escape

    from worker.build import deployment_version
    from worker.replay import replay as replayed

    console = stdout()
    rows: list[dict[str, Any]] = []
    histories = _from_files(files) if files else _from_server(settings, query)
    async for one in replayed(histories):
        rows.append(asdict(one) | {"compatible": one.compatible})
        if not as_json:
            mark = "[green]✓[/]" if one.compatible else "[red]✗[/]"
            why = f": {one.problem}" if one.problem else ""
            console.print(f"{mark} {escape(f'{one.workflow_id} {one.workflow_type}{why}')}", soft_wrap=True)
    compatible = all(row["compatible"] for row in rows)
    if as_json:
        build_id = deployment_version(settings).build_id
        print_json({"build_id": build_id, "compatible": compatible, "runs": rows})
    elif not rows:
        console.print("no such runs")
    if not compatible:
        stderr().print(escape(_HINT), soft_wrap=True)
    return GO if compatible else NO_GO


async def _move(settings: Settings, *, as_json: bool) -> int:
    from rich.markup import escape

    from worker.moving import move_open_runs

    families = [family async for family in move_open_runs(await _client(settings))]
    if as_json:
        print_json([asdict(family) for family in families])
    else:
        for family in families:
            mark = "[green]✓[/]" if family.problem is None else "[red]✗[/]"
            stdout().print(f"{mark} {escape(str(family))}", soft_wrap=True)
        if not families:
            stdout().print("nothing to move: each open run has a worker of its build")
    return NO_GO if any(family.problem for family in families) else GO


async def _from_files(files: Sequence[Path]) -> AsyncGenerator[WorkflowHistory]:
    from qefleet.errors import UsageError
    from worker.replay import history_from_json

    for file in files:
        try:
            yield history_from_json(file.read_text("utf-8"))
        except OSError as error:
            raise UsageError(f"FILE: {file} can't be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(
                f"FILE: {file} isn't a history as `temporal workflow show --output json` writes it"
            ) from error


async def _from_server(settings: Settings, query: str | None) -> AsyncGenerator[WorkflowHistory]:
    from temporalio.service import RPCError

    from qefleet.contracts.runs import TASK_QUEUE
    from qefleet.errors import UsageError
    from worker.moving import OPEN_RUNS

    client = await _client(settings)
    try:
        async for run in client.list_workflows(query or OPEN_RUNS.format(task_queue=TASK_QUEUE)):
            yield await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
    except RPCError as error:
        raise UsageError(f"--query: {error.message}" if query else error.message) from error


async def _client(settings: Settings) -> Client:
    """A connection to the user's Temporal, else to that of a running `qe up`.

    Raises:
        UsageError: There is neither.
    """
    from worker.cli.session import open_session
    from worker.settings import resolve_model

    async with open_session(
        settings, resolve_model(settings), console=stderr(), may_start=False
    ) as session:  # which only closes what it has started
        return session.client
