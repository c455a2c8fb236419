"""`qe report`: earlier runs, and what they found."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import AsJson, print_json, print_rows, stdout

if TYPE_CHECKING:
    import asyncpg

    from qefleet.contracts.runs import RunResult
    from qefleet.contracts.steps import Closed

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "qe report\n\n"
    "qe report qe-boltons-1a2b3c\n\n"
    "qe report qe-boltons-1a2b3c --output ./out"
)

_COLUMNS = {
    "workflow_id": "run",
    "target": "target",
    "model": "model",
    "decision": "decision",
    "opened_at": "begun",
    "took": "took",
}


def report(
    run: Annotated[
        str | None, typer.Argument(help="A workflow id or run id; without it runs are listed.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write report and patch into this folder instead of printing the report."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, or print the report of one."""
    from worker.cli.progress import elapsed

    if run is None:
        rows = asyncio.run(_runs(limit))
        if not as_json:
            rows = [
                row | {"opened_at": f"{row['opened_at']:%Y-%m-%d %H:%M}", "took": elapsed(row["duration_s"])}
                for row in rows
            ]
        print_rows(rows, columns=_COLUMNS, as_json=as_json, empty="no runs yet: `qe run pipeline .`")
        return
    row, text, written = asyncio.run(_report(run, output))
    if as_json:
        print_json(row | {"text": text, "written": written})
    elif written:
        for path in written:
            stdout().print(str(path), soft_wrap=True)
    else:
        typer.echo(text)


async def _runs(limit: int) -> list[dict[str, Any]]:
    from worker.cli.database import database, sql
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        return [dict(row) for row in await pool.fetch(sql("list_runs"), limit)]


async def _report(run: str, output: Path | None) -> tuple[dict[str, Any], str, list[Path]]:
    from qefleet.contracts.steps import Closed
    from qefleet.errors import UsageError
    from qefleet.memory.artifacts import Artifacts
    from worker.cli.database import database, sql
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        row = await pool.fetchrow(sql("run_report"), run)
        if row is None:
            raise UsageError(f"no run {run} is recorded; `qe report` lists them")
        if row["result"] is None:
            raise UsageError(f"run {run} isn't finished: no report yet")
        closed = Closed.model_validate(row["result"])
        text = (await Artifacts(pool).get(closed.report.digest)).decode()
        written = await write_results(pool, closed, output) if output else []
    return dict(row), text, written


async def write_results(pool: asyncpg.Pool, results: Closed | RunResult, folder: Path) -> list[Path]:
    """Write a run's report, and its patch where there is one, into a folder; their paths.

    Args:
        pool: The run's database.
        results: What names the two.
        folder: Made when missing.
    """
    from qefleet.memory.artifacts import Artifacts

    artifacts = Artifacts(pool)
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a moment, and nothing else waits
    written: list[Path] = []
    for artifact in (results.report, results.patch):
        if artifact:
            path = (folder / artifact.name).absolute()
            path.write_bytes(await artifacts.get(artifact.digest))
            written.append(path)
    return written
