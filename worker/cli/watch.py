"""Waits for a run's end, through restarts of everything, and shows how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio.client import (
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

import qefleet.errors
from qefleet.contracts.progress import Progress
from qefleet.contracts.runs import RunResult
from qefleet.errors import QeError, UsageError

_POLL_S = 1.0
_SILENT_S = 20.0
RPC_TIMEOUT = timedelta(seconds=5)
"""For each call: without one, a call to a server that is away is tried again for ever."""
_HOPELESS = {
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNAUTHENTICATED,
}

Handle = WorkflowHandle[object, RunResult]
Show = Callable[[Progress], None]


class RunFailed(QeError):
    """The run ended without a result."""

    def __init__(self, message: str, *, unusable: bool) -> None:
        super().__init__(message)
        self.unusable = unusable
        """Whether the caller can mend it: the input or the target was wrong."""


class ServicesMoved(Exception):
    """The services that the connection led to are gone or elsewhere: connect anew."""


async def wait_for(
    handle: Handle,
    *,
    show: Show,
    silent: Callable[[], None],
    away: Callable[[bool], None],
    moved: Callable[[], bool],
) -> RunResult:
    """The run's result, however often the server, the workers or the database restart meanwhile.

    Args:
        handle: The run.
        show: Given each state of its progress.
        silent: Called when nobody has answered for its progress for long.
        away: Told whether the server is out of reach, whenever that changes.
        moved: Asked while it is out of reach whether there's no sense in waiting for it.

    Raises:
        ServicesMoved: `moved` said so.
        RunFailed: It failed, was cancelled or terminated.
        UsageError: There is no such run.
    """
    watching = asyncio.create_task(_poll(handle, show, silent))
    try:
        result = await _result(handle, away, moved)
    except WorkflowFailureError as failure:
        raise _explained(failure) from failure
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    if last := await _progress(handle):
        show(last)
    return result


async def _result(handle: Handle, away: Callable[[bool], None], moved: Callable[[], bool]) -> RunResult:
    """Ask whether it has ended until it has.

    Not `handle.result()` from the start: while the server is away that call goes on trying inside the SDK,
    for ever, and a process with such a call can't even end.
    """
    reachable = True
    while True:
        try:
            about = await handle.describe(rpc_timeout=RPC_TIMEOUT)
            if about.close_time is not None:
                return await handle.result(rpc_timeout=RPC_TIMEOUT)
            if not reachable:
                reachable = True
                away(False)
        except RPCError as error:
            if error.status in _HOPELESS:
                raise UsageError(f"no run {handle.id} here: {error.message}") from error
            if reachable:
                reachable = False
                away(True)
            if moved():
                raise ServicesMoved from error
        await asyncio.sleep(_POLL_S)


async def _poll(handle: Handle, show: Show, silent: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    heard = loop.time()
    told = False
    while True:
        if progress := await _progress(handle):
            show(progress)
            heard, told = loop.time(), False
        elif loop.time() - heard > _SILENT_S and not told:
            silent()
            told = True
        await asyncio.sleep(_POLL_S)


async def _progress(handle: Handle) -> Progress | None:
    """How far it is; None while nobody can tell."""
    try:
        return await handle.query("progress", result_type=Progress, rpc_timeout=RPC_TIMEOUT)
    except (RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
        return None


def _explained(failure: WorkflowFailureError) -> RunFailed:
    match failure.cause:
        case ApplicationError() as cause:
            return RunFailed(cause.message, unusable=_is_usage(cause.type))
        case CancelledError():
            return RunFailed("the run was cancelled", unusable=False)
        case TerminatedError():
            return RunFailed("the run was terminated", unusable=False)
        case cause:
            return RunFailed(str(cause), unusable=False)


def _is_usage(name: str | None) -> bool:
    found = getattr(qefleet.errors, name or "", None)
    return isinstance(found, type) and issubclass(found, UsageError)
