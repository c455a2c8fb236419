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
    from qefleet.reports.evidence import Evidence, RunRecord

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
_TOLD = ("workflow_id", "run_id", "target", "decision", "closed_at", "result")


def report(
    run: Annotated[
        str | None, typer.Argument(help="A workflow id or run id; without it runs are listed.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write all report files into this folder instead of printing the report."),
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
    from qefleet.errors import UsageError
    from qefleet.memory.artifacts import Artifacts
    from worker.cli.database import database
    from worker.settings import Settings

    async with database(Settings.load()) as pool:
        row, result = await stored_run(pool, run)
        if row is None:
            raise UsageError(f"no run {run} is recorded; `qe report` lists them")
        if result is None or result.report is None:
            raise UsageError(f"run {run} isn't finished: no report yet")
        text = (await Artifacts(pool).get(result.report.digest)).decode()
        written = write_files(await evidence_of(pool, run, result), output) if output else []
    return {name: row[name] for name in _TOLD}, text, written


async def stored_run(pool: asyncpg.Pool, run: str) -> tuple[asyncpg.Record | None, RunResult | None]:
    """A run's row, and its result as the database tells it; None for what isn't there.

    Args:
        pool: The run's database.
        run: Its workflow id, or its run id.
    """
    from qefleet.contracts.runs import RunResult
    from worker.cli.database import sql

    row = await pool.fetchrow(sql("run_report"), run)
    if row is None or row["result"] is None:
        return row, None
    closed: dict[str, Any] = row["result"]
    plan: dict[str, Any] = row["plan"] or {}
    steps = [step["result"] for step in await pool.fetch(sql("run_steps"), row["run_id"])]
    body = {name: row[name] for name in ("decision", "target", "snapshot", "environment", "model")}
    body |= {"steps": steps, "notes": plan.get("notes", [])}
    body |= {name: closed.get(name) for name in ("report", "patch", "usage")}
    body |= {name: closed.get(name, []) for name in ("approvals", "evaluations")}
    return row, RunResult.model_validate(body)


async def evidence_of(pool: asyncpg.Pool, run: str, result: RunResult) -> Evidence:
    """What a run's report files are made of, with places relative to the target's repository.

    Args:
        pool: The run's database.
        run: Its workflow id, or its run id.
        result: The run's.
    """
    from qefleet.memory.artifacts import Artifacts
    from qefleet.reports.evidence import gather
    from worker.cli.repository import find_repository

    folder = Path(result.target)
    repository = await find_repository(folder) if folder.is_absolute() and folder.is_dir() else None  # noqa: ASYNC240 - a moment, and nothing else waits
    inside = repository.inside if repository else ""
    record = await _record(pool, run)
    return await gather(result, Artifacts(pool).get, folder=inside, record=record)


async def _record(pool: asyncpg.Pool, run: str) -> RunRecord | None:
    from pydantic import TypeAdapter

    from qefleet.reports.evidence import RunRecord
    from worker.cli.database import sql

    row = await pool.fetchrow(sql("run_record"), run)
    return TypeAdapter(RunRecord).validate_python(dict(row)) if row else None


def write_files(evidence: Evidence, folder: Path) -> list[Path]:
    """Write a run's report files into a folder, which is made when missing; their paths."""
    from qefleet.reports.files import report_files

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, content in report_files(evidence).items():
        written.append((folder / name).absolute())
        written[-1].write_bytes(content)
    return written
