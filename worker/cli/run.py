"""`qe run`: start a run, watch it, tell what came of it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import FAILED, GO, INTERRUPTED, NO_GO, UNUSABLE, AsJson, print_json, stderr, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from qefleet.contracts.runs import RunInput, RunResult
    from worker.cli.progress import View
    from worker.cli.session import Session
    from worker.cli.watch import Handle
    from worker.settings import ChosenModel, Settings

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "qe run pipeline .\n\n"
    "qe run pipeline pypi:tabulate==0.10.0 --model local --report ./out\n\n"
    "qe run pipeline git+https://example.org/team/project@main --budget 2.50 --json\n\n"
    "qe run pipeline ~/project --threshold line_percent_min=80 --apply\n\n"
    "qe run --attach qe-project-1a2b3c\n\n"
    "[bold]Exit codes[/]: 0 GO or CONDITIONAL, or nothing gates; 1 NO_GO; 2 unusable input; 3 the run failed; "
    "130 left by Ctrl-C."
)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What was asked for."""

    pattern: str
    run_input: RunInput | None
    """None to attach to a run that is there."""
    workflow_id: str
    detach: bool
    as_json: bool
    apply_to: Path | None
    report: Path | None
    demo: bool


def run(
    pattern: Annotated[str | None, typer.Argument(help="pipeline", show_default=False)] = None,
    target: Annotated[
        str | None,
        typer.Argument(help="A folder, git+https://…@ref, or pypi:name==version.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="provider/name, local or none; QE_MODEL without it.", show_default=False),
    ] = None,
    agents: Annotated[
        str | None, typer.Option(help="Comma-separated ids, see `qe agents`.", show_default=False)
    ] = None,
    input_json: Annotated[
        str | None, typer.Option("--input", help="The whole input as JSON, or @FILE; options go over it.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="USD that its model calls may cost.", show_default=False)
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="name=value for the gate, such as line_percent_min=80; repeatable."),
    ] = None,
    workflow_id: Annotated[
        str | None, typer.Option("--id", help="The workflow's id; a new one without it.", show_default=False)
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(help="Watch the run with this id instead of starting one.", show_default=False),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what was kept into the target folder.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report and patch; one in the data folder without it.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return; needs `qe up`.")] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Bound its time, and go on without a model where `local` can't be had."),
    ] = False,
    unsafe_no_sandbox: Annotated[
        bool,
        typer.Option("--unsafe-no-sandbox", help="Run untrusted code unconfined; recorded in the result."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pattern on a target, watch it, and exit by its decision.

    Connects to your Temporal (TEMPORAL_ADDRESS or profile), to a running `qe up`, or starts the services for
    the time of the run. Ctrl-C never loses work: the run goes on where it was, see --attach.
    """
    from qefleet.errors import UsageError
    from worker.cli.inputs import PATTERNS, build_input, new_workflow_id, parse_json
    from worker.settings import Settings, check_model, resolve_model

    settings = Settings.load()
    if unsafe_no_sandbox:
        settings = replace(
            settings,
            unsafe_no_sandbox=True,
            environment={**settings.environment, "QE_UNSAFE_NO_SANDBOX": "1"},
        )
    run_input: RunInput | None = None
    if attach is None:
        if pattern not in PATTERNS:
            raise UsageError(f"PATTERN: one of {', '.join(PATTERNS)}, such as `qe run pipeline .`")
        base = parse_json(input_json, name="--input") if input_json else None
        if model is not None:
            check_model(model, name="--model")
        run_input = build_input(
            base=base,
            target=target,
            model=model,
            agents=agents,
            budget_usd=budget,
            thresholds=threshold or [],
            demo=demo,
        )
        if apply and run_input.target.kind != "path":
            raise UsageError(
                "--apply: only a folder can be written to; --report keeps the patch of other targets"
            )
    elif apply or detach:
        raise UsageError("--attach: goes with --report and --json only")
    wish = _Wish(
        pattern=PATTERNS.get(pattern or "", ""),
        run_input=run_input,
        workflow_id=attach or workflow_id or new_workflow_id(run_input.target.location if run_input else ""),
        detach=detach,
        as_json=as_json,
        apply_to=Path(run_input.target.location) if apply and run_input else None,
        report=report,
        demo=demo,
    )
    chosen = resolve_model(settings, asked=run_input.model if run_input else None)
    raise typer.Exit(asyncio.run(_run(settings, chosen, wish)))


async def _run(settings: Settings, chosen: ChosenModel, wish: _Wish) -> int:
    from worker.cli.interrupts import on_interrupt
    from worker.cli.watch import ServicesMoved

    console = stderr() if wish.as_json else stdout()
    interrupt = _Interrupt()
    with on_interrupt(interrupt.first, interrupt.again):
        try:
            chosen, wish = await _with_model(settings, chosen, wish, console)
            while True:
                try:
                    return await _in_session(settings, chosen, wish, console, interrupt)
                except ServicesMoved:
                    wish = replace(wish, run_input=None)  # it is started; from now on it is only watched
        except asyncio.CancelledError:
            if not interrupt.asked.is_set():
                raise
            console.print("stopped before the run was started")
            return INTERRUPTED


async def _with_model(
    settings: Settings, chosen: ChosenModel, wish: _Wish, console: Console
) -> tuple[ChosenModel, _Wish]:
    """Have the local model here where it is asked for; the demo goes on without."""
    from qefleet.errors import LocalModelUnavailable
    from worker.cli.local_model import ensure_local_model

    if chosen.model == "none" and wish.run_input and wish.run_input.model is None:
        console.print(f"[yellow]![/] {chosen.reason}", soft_wrap=True)
    if chosen.model != "local":
        return chosen, wish
    try:
        model = await ensure_local_model(settings, console=console)
    except LocalModelUnavailable as error:
        if not wish.demo:
            raise
        model = "none"
        console.print(f"[yellow]![/] going on without a model: {error}", soft_wrap=True)
    if wish.run_input and wish.run_input.model == "local":
        wish = replace(wish, run_input=wish.run_input.model_copy(update={"model": model}))
    return replace(chosen, model=model), wish


async def _in_session(
    settings: Settings, chosen: ChosenModel, wish: _Wish, console: Console, interrupt: _Interrupt
) -> int:
    from qefleet.errors import UsageError
    from worker.cli.progress import progress_view
    from worker.cli.session import have_local_model_served, open_session

    async with open_session(settings, chosen, console=console, may_start=not wish.detach) as session:
        if settings.unsafe_no_sandbox and not session.owned and wish.run_input:
            raise UsageError(
                "--unsafe-no-sandbox: is the worker's choice; start `qe up` with QE_UNSAFE_NO_SANDBOX=1"
            )
        if chosen.model == "local":
            await have_local_model_served(session)
        interrupt.started(session)
        handle = await _handle(session, wish)
        where = session.run_url(handle.id, handle.first_execution_run_id)
        if wish.detach:
            _tell_detached(wish, handle, where, console)
            return GO
        console.print(f"run {handle.id}" + (f", {where}" if where else ""), soft_wrap=True)
        with progress_view(console) as view:
            outcome = await _until_end_or_interrupt(settings, session, handle, view, interrupt)
        if outcome is None:
            return await _leave(handle, session, console)
        return await _tell(settings, session, handle, outcome, wish, console)


async def _handle(session: Session, wish: _Wish) -> Handle:
    from temporalio.exceptions import WorkflowAlreadyStartedError

    from qefleet.contracts.runs import TASK_QUEUE, RunResult
    from qefleet.errors import UsageError

    client = session.client
    if wish.run_input is None:
        return client.get_workflow_handle(wish.workflow_id, result_type=RunResult)
    try:
        return await client.start_workflow(
            wish.pattern,
            wish.run_input.model_dump(mode="json", exclude_unset=True)
            | {"target": str(wish.run_input.target)},
            id=wish.workflow_id,
            task_queue=TASK_QUEUE,
            result_type=RunResult,
        )
    except WorkflowAlreadyStartedError as error:
        raise UsageError(
            f"--id: {wish.workflow_id} is running already; `qe run --attach {wish.workflow_id}` watches it"
        ) from error


async def _until_end_or_interrupt(
    settings: Settings, session: Session, handle: Handle, view: View, interrupt: _Interrupt
) -> RunResult | Exception | None:
    """The result, the run's failure, or None when somebody wants to leave."""
    from worker.cli.watch import RunFailed, wait_for
    from worker.services.state import is_held, running

    def away(out_of_reach: bool) -> None:
        view.say(
            "Temporal is out of reach; the run is safe, waiting …" if out_of_reach else "Temporal is back"
        )

    def moved() -> bool:
        if session.up is None or session.owned is not None:
            return False
        now = running(settings.folders.data)
        if now is not None:
            return now.pid != session.up.pid
        # A `qe up` will be started again by its user; who lived on another `qe run` takes over from it.
        return session.up.command != "qe up" and not is_held(settings.folders.data)

    ending = asyncio.create_task(wait_for(handle, show=view.show, away=away, moved=moved))
    asking = asyncio.create_task(interrupt.asked.wait())
    try:
        await asyncio.wait([ending, asking], return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            return None
        try:
            return await ending
        except RunFailed as failure:
            return failure
    finally:
        for task in (ending, asking):
            task.cancel()
        await asyncio.gather(ending, asking, return_exceptions=True)


async def _leave(handle: Handle, session: Session, console: Console) -> int:
    """After Ctrl-C: ask a person, and never lose what was done."""
    if sys.stdin.isatty() and console.is_terminal and _wants_cancel(console):
        await handle.cancel()
        console.print(f"{handle.id} is told to stop; what it has recorded stays (`qe report {handle.id}`)")
        return FAILED
    if session.owned:
        console.print(
            f"{handle.id} is kept: it goes on where it was with the next `qe up`, "
            f"or with `qe run --attach {handle.id}`",
            soft_wrap=True,
        )
    else:
        console.print(f"{handle.id} goes on; `qe run --attach {handle.id}` watches it again", soft_wrap=True)
    return INTERRUPTED


def _wants_cancel(console: Console) -> bool:
    try:
        return (
            console.input("Leave the run to go on later, or cancel it? \\[L/c] ")
            .strip()
            .lower()
            .startswith("c")
        )
    except (EOFError, KeyboardInterrupt):
        return False


def _tell_detached(wish: _Wish, handle: Handle, where: str | None, console: Console) -> None:
    if wish.as_json:
        print_json({"workflow_id": handle.id, "run_id": handle.first_execution_run_id, "ui": where})
        return
    console.print(f"started {handle.id}" + (f", {where}" if where else ""), soft_wrap=True)
    console.print(f"`qe run --attach {handle.id}` watches it", soft_wrap=True)


async def _tell(
    settings: Settings,
    session: Session,
    handle: Handle,
    outcome: RunResult | Exception,
    wish: _Wish,
    console: Console,
) -> int:
    """Print what came of it, write what was asked for; the exit code."""
    from worker.cli.output import explain
    from worker.cli.watch import RunFailed

    where = session.run_url(handle.id, handle.first_execution_run_id)
    if isinstance(outcome, Exception):
        if wish.as_json:
            print_json({"workflow_id": handle.id, "ui": where, "error": str(outcome), "result": None})
        explain(outcome)
        console.print(
            f"what it recorded: `qe report {handle.id}`" + (f"; {where}" if where else ""), soft_wrap=True
        )
        return UNUSABLE if isinstance(outcome, RunFailed) and outcome.unusable else FAILED
    files = await _write(settings, session, handle.id, outcome, wish, console)
    if wish.as_json:
        summary: dict[str, Any] = {"workflow_id": handle.id, "ui": where, "files": files, "result": outcome}
        print_json(summary)
    else:
        from worker.cli.summary import print_summary

        took_s = await _duration(handle)
        print_summary(console, outcome, took_s=took_s, files=files, ui=where)
        if session.owned and where:
            console.print("(the UI is there again with `qe up`)")
    if outcome.decision == "NO_GO":
        return NO_GO
    failed = any(step.status == "failed" for step in outcome.steps)
    return FAILED if failed and outcome.decision is None else GO


async def _write(
    settings: Settings, session: Session, workflow_id: str, result: RunResult, wish: _Wish, console: Console
) -> list[Path]:
    """Write report and patch where they are wanted, and the patch into the user's tree when asked to."""
    from qefleet.memory.artifacts import Artifacts
    from qefleet.sql.database import open_pool
    from worker.cli.report import write_results

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
    from temporalio.service import RPCError

    try:
        about = await handle.describe()
    except RPCError:
        return None
    return (about.close_time - about.start_time).total_seconds() if about.close_time else None


class _Interrupt:
    """What Ctrl-C does: before the run is started it ends the command, afterwards it asks the watcher."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._task = asyncio.current_task()
        self._session: Session | None = None

    def started(self, session: Session) -> None:
        """From here on there is a run to care for."""
        self._session = session

    def first(self) -> None:
        self.asked.set()
        if self._session is None and self._task:
            self._task.cancel()

    def again(self) -> None:
        if self._session and self._session.owned:
            self._session.owned.kill()
