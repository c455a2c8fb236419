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
_QUERY_S = 5.0
_RETRY_S = 1.0
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
    handle: Handle, *, show: Show, away: Callable[[bool], None], moved: Callable[[], bool]
) -> RunResult:
    """The run's result, however often the server, the workers or the database restart meanwhile.

    Args:
        handle: The run.
        show: Given each state of its progress.
        away: Told whether the server is out of reach, whenever that changes.
        moved: Asked while it is out of reach whether there's no sense in waiting for it.

    Raises:
        ServicesMoved: `moved` said so.
        RunFailed: It failed, was cancelled or terminated.
        UsageError: There is no such run.
    """
    watching = asyncio.create_task(_poll(handle, show))
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
    reachable = True
    while True:
        try:
            return await handle.result()
        except RPCError as error:
            if error.status in _HOPELESS:
                raise UsageError(f"no run {handle.id} here: {error.message}") from error
            if reachable:
                reachable = False
                away(True)
            if moved():
                raise ServicesMoved from error
        await asyncio.sleep(_RETRY_S)
        if not reachable and await _progress(handle):
            reachable = True
            away(False)


async def _poll(handle: Handle, show: Show) -> None:
    while True:
        if progress := await _progress(handle):
            show(progress)
        await asyncio.sleep(_POLL_S)


async def _progress(handle: Handle) -> Progress | None:
    """How far it is; None while nobody can tell."""
    try:
        return await handle.query("progress", result_type=Progress, rpc_timeout=timedelta(seconds=_QUERY_S))
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
