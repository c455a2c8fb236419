"""What came of a run: told to people or programs, written where it is wanted, turned into an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from temporalio.service import RPCError

from qefleet.contracts.runs import RunResult
from qefleet.errors import QeError
from qefleet.reports.evidence import Evidence
from qefleet.reports.findings import findings
from qefleet.sql.database import open_pool
from worker.cli.github import annotate, append_outputs, append_summary, muted, summary
from worker.cli.output import FAILED, GO, NO_GO, UNUSABLE, explain, print_json
from worker.cli.report import evidence_of, stored_run, write_files
from worker.cli.session import Session
from worker.cli.summary import print_summary
from worker.cli.watch import RPC_TIMEOUT, Handle, RunFailed
from worker.cli.wish import Wish
from worker.settings import Ci, Settings


async def tell(
    handle: Handle,
    outcome: RunResult | RunFailed,
    *,
    settings: Settings,
    session: Session,
    wish: Wish,
    console: Console,
) -> int:
    """Print what came of a run and write what was asked for; the exit code."""
    where = session.run_url(handle.id, handle.first_execution_run_id)
    with muted(settings.ci, as_json=wish.as_json):
        try:
            written = await _write(
                handle, outcome, settings=settings, session=session, wish=wish, console=console
            )
        except QeError:
            if not isinstance(outcome, RunFailed):
                raise
            written = _Written([], None)  # why the run failed matters more than what it recorded
        if isinstance(outcome, RunFailed):
            code = _tell_failure(handle, outcome, written, wish=wish, console=console, ui=where)
        else:
            code = await _tell_result(handle, outcome, written, wish=wish, console=console, ui=where)
            if session.owned and where and not wish.as_json:
                console.print("(the UI is there again with `qe up`)")
    if settings.ci.system == "github":
        _tell_github(settings.ci, handle.id, outcome, written, as_json=wish.as_json, ui=where)
    return code


async def _tell_result(
    handle: Handle, result: RunResult, written: _Written, *, wish: Wish, console: Console, ui: str | None
) -> int:
    if wish.as_json:
        summary: dict[str, Any] = {"workflow_id": handle.id, "ui": ui, "files": written.files}
        print_json(summary | {"result": result})
    else:
        print_summary(console, result, took_s=await _duration(handle), files=written.files, ui=ui)
    if result.decision == "NO_GO":
        return NO_GO
    failed = any(step.status == "failed" for step in result.steps)
    return FAILED if failed and result.decision is None else GO


def _tell_failure(
    handle: Handle, failure: RunFailed, written: _Written, *, wish: Wish, console: Console, ui: str | None
) -> int:
    if wish.as_json:
        about: dict[str, Any] = {"workflow_id": handle.id, "ui": ui, "files": written.files}
        print_json(about | {"error": str(failure), "result": None})
    explain(failure)
    console.print(f"what it recorded: `qe report {handle.id}`" + (f"; {ui}" if ui else ""), soft_wrap=True)
    for path in written.files:
        console.print(str(path), soft_wrap=True)
    return UNUSABLE if failure.unusable else FAILED


def _tell_github(
    ci: Ci,
    workflow_id: str,
    outcome: RunResult | RunFailed,
    written: _Written,
    *,
    as_json: bool,
    ui: str | None,
) -> None:
    """Annotate what is to be looked at, and fill the step's summary and outputs."""
    evidence = written.evidence
    found = findings(evidence) if evidence else []
    failure = str(outcome) if isinstance(outcome, RunFailed) else None
    annotate(found, error=failure, as_json=as_json)
    decision = "FAILED" if failure else (evidence.result.decision if evidence else None)
    if evidence:
        append_summary(ci, summary(evidence, found, failure=failure, workflow_id=workflow_id, ui=ui))
    folder = written.files[0].parent if written.files else None
    append_outputs(ci, {"decision": decision or "", "report": folder, "workflow-id": workflow_id})


@dataclass(frozen=True)
class _Written:
    """The report's files, and what they were made of; None where the run's database isn't in reach."""

    files: list[Path]
    evidence: Evidence | None


async def _write(
    handle: Handle,
    outcome: RunResult | RunFailed,
    *,
    settings: Settings,
    session: Session,
    wish: Wish,
    console: Console,
) -> _Written:
    """Write the report where it is wanted, and the patch into the user's tree when asked to."""
    if session.database_url is None:
        console.print(
            "the report stays in the run's database: QE_DATABASE_URL isn't set here", soft_wrap=True
        )
        return _Written([], Evidence(result=outcome) if isinstance(outcome, RunResult) else None)
    folder = wish.report or settings.folders.data / "reports" / handle.id
    async with await open_pool(session.database_url, max_size=2) as pool:
        if isinstance(outcome, RunFailed):
            _, result = await stored_run(pool, handle.id)
        else:
            result = outcome
        if result is None:
            return _Written([], None)
        evidence = await evidence_of(pool, handle.id, result)
        files = write_files(evidence, folder)
        if wish.apply_to and isinstance(outcome, RunResult):
            await _apply(wish.apply_to, evidence.patch, console)
    return _Written(files, evidence)


async def _apply(folder: Path, patch: bytes | None, console: Console) -> None:
    if patch is None:
        console.print("--apply: nothing was kept, so nothing is written")
        return
    from qefleet.workspace.patches import apply_to_user_tree

    await apply_to_user_tree(folder, patch)
    console.print(f"written into {folder}", soft_wrap=True)


async def _duration(handle: Handle) -> float | None:
    try:
        about = await handle.describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError:
        return None
    return (about.close_time - about.start_time).total_seconds() if about.close_time else None
