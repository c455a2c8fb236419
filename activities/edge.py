"""The activities' edge: heartbeats while they work, and our errors as Temporal's, once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

from temporalio import activity
from temporalio.exceptions import ApplicationError

from qefleet.errors import InvalidInput, QeError, RunError, TransientError, UsageError

_HEARTBEAT_S = 3.0
_ATTEMPTS_AT_A_BUG = 5

_Method = TypeVar("_Method", bound=Callable[..., Coroutine[Any, Any, Any]])


def implements(port: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Make a method the activity that a port names, with heartbeats and translated errors.

    Args:
        port: The stub in `qefleet.contracts.ports` whose name the activity has.
    """

    def decorate(method: _Method) -> _Method:
        @activity.defn(name=port.__name__)
        @functools.wraps(method)
        async def run(self: Any, request: Any) -> Any:
            async with _heartbeats():
                try:
                    return await method(self, request)
                except QeError as error:
                    raise translated(error) from error
                except ApplicationError:
                    raise
                except Exception as error:
                    if activity.info().attempt < _ATTEMPTS_AT_A_BUG:
                        raise
                    # Ours to mend: no number of further attempts will.
                    message = f"{type(error).__name__}: {error}"
                    raise ApplicationError(message, type=type(error).__name__, non_retryable=True) from error

        return cast("_Method", run)

    return decorate


def translated(error: QeError) -> ApplicationError:
    """Our error as Temporal's: retried only where another try can help."""
    match error:
        case InvalidInput():
            return ApplicationError(f"invalid input: {error}", type="InvalidInput", non_retryable=True)
        case UsageError() | RunError():
            return ApplicationError(str(error), type=type(error).__name__, non_retryable=True)
        case TransientError():
            delay = timedelta(seconds=error.retry_after_s) if error.retry_after_s else None
            return ApplicationError(str(error), type=type(error).__name__, next_retry_delay=delay)
        case _:
            return ApplicationError(str(error), type=type(error).__name__)


@asynccontextmanager
async def _heartbeats() -> AsyncGenerator[None]:
    """Tell the server that this worker lives, so that its death is noticed within seconds."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(_HEARTBEAT_S)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
