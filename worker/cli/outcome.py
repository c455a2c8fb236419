"""What came of a run: told to people or programs, written where it is wanted, turned into an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from temporalio.service import RPCError

from qefleet.contracts.runs import RunResult
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from worker.cli.output import FAILED, GO, NO_GO, UNUSABLE, explain, print_json
from worker.cli.report import write_results
from worker.cli.session import Session
from worker.cli.summary import print_summary
from worker.cli.watch import RPC_TIMEOUT, Handle, RunFailed
from worker.cli.wish import Wish
from worker.settings import Settings


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
    if isinstance(outcome, RunFailed):
        if wish.as_json:
            print_json({"workflow_id": handle.id, "ui": where, "error": str(outcome), "result": None})
        explain(outcome)
        console.print(
            f"what it recorded: `qe report {handle.id}`" + (f"; {where}" if where else ""), soft_wrap=True
        )
        return UNUSABLE if outcome.unusable else FAILED
    files = await _write(handle.id, outcome, settings=settings, session=session, wish=wish, console=console)
    if wish.as_json:
        summary: dict[str, Any] = {"workflow_id": handle.id, "ui": where, "files": files, "result": outcome}
        print_json(summary)
    else:
        took_s = await _duration(handle)
        print_summary(console, outcome, took_s=took_s, files=files, ui=where)
        if session.owned and where:
            console.print("(the UI is there again with `qe up`)")
    if outcome.decision == "NO_GO":
        return NO_GO
    failed = any(step.status == "failed" for step in outcome.steps)
    return FAILED if failed and outcome.decision is None else GO


async def _write(
    workflow_id: str,
    result: RunResult,
    *,
    settings: Settings,
    session: Session,
    wish: Wish,
    console: Console,
) -> list[Path]:
    """Write report and patch where they are wanted, and the patch into the user's tree when asked to."""
    if session.database_url is None:
        console.print(
            "report and patch stay in the run's database: QE_DATABASE_URL isn't set here", soft_wrap=True
        )
        return []
    folder = wish.report or settings.folders.data / "reports" / workflow_id
    async with await open_pool(session.database_url, max_size=2) as pool:
        files = await write_results(pool, result, folder)
        if wish.apply_to and result.patch:
            from qefleet.workspace.patches import apply_to_user_tree

            await apply_to_user_tree(wish.apply_to, await Artifacts(pool).get(result.patch.digest))
            console.print(f"written into {wish.apply_to}", soft_wrap=True)
        elif wish.apply_to:
            console.print("--apply: nothing was kept, so nothing is written")
    return files


async def _duration(handle: Handle) -> float | None:
    try:
        about = await handle.describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError:
        return None
    return (about.close_time - about.start_time).total_seconds() if about.close_time else None
