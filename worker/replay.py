"""Replays recorded histories against this version's workflows: would a run go on with today's code?"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from google.protobuf.json_format import ParseError
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from worker.plugin import qe_plugin
from worker.registry import REPLAYED
from worker.services.connection import quiet_runtime

# The SDK wraps what went wrong in a dump of its own structures.
_MESSAGE = re.compile(r'message: "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of one history."""

    workflow_id: str
    run_id: str
    workflow_type: str
    problem: str | None
    """Why today's code can't have written it; None when it can."""

    @property
    def compatible(self) -> bool:
        """Whether the run would go on with today's code."""
        return self.problem is None


async def replay(histories: AsyncIterator[WorkflowHistory]) -> AsyncGenerator[Replayed]:
    """Replay each history, in order, without a server.

    Args:
        histories: With at least their first event.
    """
    replayer = Replayer(workflows=REPLAYED, plugins=[qe_plugin()], runtime=quiet_runtime())
    with _without_tracebacks():
        async with replayer.workflow_replay_iterator(histories) as results:
            async for result in results:
                started = result.history.events[0].workflow_execution_started_event_attributes
                yield Replayed(
                    workflow_id=result.history.workflow_id,
                    run_id=result.history.run_id,
                    workflow_type=started.workflow_type.name,
                    problem=result.replay_failure and _problem(result.replay_failure),
                )


def history_from_json(text: str) -> WorkflowHistory:
    """A history as `temporal workflow show --output json` and the Temporal UI write it.

    It gets the id of the workflow that wrote it, of which ids of child workflows are made.

    Raises:
        ValueError: It isn't one.
    """
    try:
        history = WorkflowHistory.from_json("", text)
        started = history.events[0].workflow_execution_started_event_attributes
    except (ParseError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError("not a history") from error
    if not started.workflow_type.name:
        raise ValueError("not a history: it doesn't begin with the start of a workflow")
    return replace(history, workflow_id=started.workflow_id)


async def replay_one(history: WorkflowHistory) -> Replayed:
    """Replay one history."""

    async def only() -> AsyncGenerator[WorkflowHistory]:
        yield history

    async with aclosing(replay(only())) as results:
        return await anext(results)


def _problem(failure: Exception) -> str:
    found = _MESSAGE.search(str(failure))
    message = found[1].replace('\\"', '"').replace("\\\\", "\\") if found else str(failure)
    if isinstance(failure, NondeterminismError):
        return message
    return message.replace("Workflow class", "no workflow type").partition(" is not registered")[0]


@contextmanager
def _without_tracebacks() -> Generator[None]:
    """The SDK logs what it hands back to us as well."""
    logger = logging.getLogger("temporalio")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
