"""Carries a run out: finds or starts the services, starts the run, watches it, and leaves it well."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

from rich.console import Console
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy as Conflict
from temporalio.common import WorkflowIDReusePolicy as Reuse
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from qefleet.contracts.flows import FlowInput
from qefleet.contracts.runs import TASK_QUEUE, RunInput, RunResult
from qefleet.errors import LocalModelUnavailable, UsageError
from worker.cli.github import muted
from worker.cli.interrupts import on_interrupt
from worker.cli.local_model import ensure_local_model
from worker.cli.outcome import tell
from worker.cli.output import FAILED, GO, INTERRUPTED, print_json, stderr, stdout
from worker.cli.progress import View, progress_view
from worker.cli.session import Session, have_local_model_served, open_session
from worker.cli.watch import RPC_TIMEOUT, Handle, RunFailed, ServicesMoved, wait_for
from worker.cli.wish import Wish
from worker.services.state import is_held, running
from worker.settings import ChosenModel, Settings

_AGAIN = {
    WorkflowExecutionStatus.RUNNING: "goes on: attached to it",
    WorkflowExecutionStatus.COMPLETED: "has ended before: this is its result",
}


async def carry_out(settings: Settings, chosen: ChosenModel, wish: Wish) -> int:
    """Do it; the exit code."""
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
    settings: Settings, chosen: ChosenModel, wish: Wish, console: Console
) -> tuple[ChosenModel, Wish]:
    """Have the local model here where it is asked for; the demo goes on without."""
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
    settings: Settings, chosen: ChosenModel, wish: Wish, console: Console, interrupt: _Interrupt
) -> int:
    async with open_session(settings, chosen, console=console, may_start=not wish.detach) as session:
        if settings.unsafe_no_sandbox and not session.owned and wish.run_input:
            raise UsageError(
                "--unsafe-no-sandbox: is the worker's choice; start `qe up` with QE_UNSAFE_NO_SANDBOX=1"
            )
        if chosen.model == "local":
            await have_local_model_served(session)
        interrupt.started(session)
        handle = await _handle(session, wish, console)
        where = session.run_url(handle.id, handle.first_execution_run_id)
        if wish.detach:
            _tell_detached(wish, handle, where, console)
            return GO
        console.print(f"run {handle.id}" + (f", {where}" if where else ""), soft_wrap=True)
        with muted(settings.ci, as_json=wish.as_json), progress_view(console) as view:
            outcome = await _until_end_or_interrupt(settings, session, handle, view, interrupt)
        if outcome is None:
            return await _leave(handle, session, console)
        return await tell(handle, outcome, settings=settings, session=session, wish=wish, console=console)


async def _handle(session: Session, wish: Wish, console: Console) -> Handle:
    client = session.client
    known: Handle = client.get_workflow_handle(wish.workflow_id, result_type=RunResult)
    if wish.run_input is None:
        return known
    if wish.same and (found := await _status(known)):
        console.print(f"{wish.workflow_id} {_AGAIN.get(found, 'has failed before: it is run again')}")
    try:
        started = await client.start_workflow(
            wish.pattern,
            _on_the_wire(wish.run_input),
            id=wish.workflow_id,
            task_queue=TASK_QUEUE,
            static_summary=f"{wish.pattern} of {wish.run_input.target or 'a lionagi graph'}",
            rpc_timeout=RPC_TIMEOUT,
            id_conflict_policy=Conflict.USE_EXISTING if wish.same else Conflict.UNSPECIFIED,
            id_reuse_policy=Reuse.ALLOW_DUPLICATE_FAILED_ONLY if wish.same else Reuse.ALLOW_DUPLICATE,
        )
    except WorkflowAlreadyStartedError as error:
        if wish.same:
            return known
        raise UsageError(
            f"--id: {wish.workflow_id} is running already; `qe run --attach {wish.workflow_id}` watches it"
        ) from error
    # Not the handle of this very execution: after `temporal workflow reset` the next one has the result.
    return client.get_workflow_handle(
        started.id, first_execution_run_id=started.first_execution_run_id, result_type=RunResult
    )


async def _status(handle: Handle) -> WorkflowExecutionStatus | None:
    """How a run stands; None where there is none."""
    try:
        return (await handle.describe(rpc_timeout=RPC_TIMEOUT)).status
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def _on_the_wire(run_input: RunInput | FlowInput) -> dict[str, Any]:
    """As a person would have written it."""
    written = run_input.model_dump(mode="json", exclude_unset=True)
    return written | ({"target": str(run_input.target)} if run_input.target else {})


async def _until_end_or_interrupt(
    settings: Settings, session: Session, handle: Handle, view: View, interrupt: _Interrupt
) -> RunResult | RunFailed | None:
    """The result, the run's failure, or None when somebody wants to leave."""

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

    def silent() -> None:
        view.say(f"no worker answers on task queue {TASK_QUEUE} of {session.address}: is a worker running?")

    ending = asyncio.create_task(wait_for(handle, show=view.show, silent=silent, away=away, moved=moved))
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
        await handle.cancel(rpc_timeout=RPC_TIMEOUT)
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


def _tell_detached(wish: Wish, handle: Handle, where: str | None, console: Console) -> None:
    if wish.as_json:
        print_json({"workflow_id": handle.id, "run_id": handle.first_execution_run_id, "ui": where})
        return
    console.print(f"started {handle.id}" + (f", {where}" if where else ""), soft_wrap=True)
    console.print(f"`qe run --attach {handle.id}` watches it", soft_wrap=True)


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
