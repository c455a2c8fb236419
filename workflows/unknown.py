"""Answers for workflow types that don't exist, so that a mistyped `--type` fails at once and doesn't hang."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

KNOWN = (
    "Pipeline",
    "Parallel",
    "FanOutFanIn",
    "ParallelExpansion",
    "Conditional",
    "Hierarchical",
    "Flow",
    "Release",
)


@workflow.defn(dynamic=True)
class Unknown:
    """Refuses any workflow type that the fleet doesn't have."""

    @workflow.run
    async def run(self, _args: Sequence[RawValue]) -> None:
        """Fail, naming the types that exist.

        Raises:
            ApplicationError: Always, of type `InvalidInput`.
        """
        asked = workflow.info().workflow_type
        message = f"invalid input: type: no workflow type {asked!r}; known: {', '.join(KNOWN)}"
        raise ApplicationError(message, type="InvalidInput", non_retryable=True)
