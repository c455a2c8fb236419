"""What all steps of a run share: its plan, what people told it, and how it calls activities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityConfig

from qefleet.contracts.steps import Plan, RunRef
from workflows.control import Control

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_HEARTBEAT = timedelta(seconds=15)

# Every time-out and retry in one place. Preparing waits out a package index; measuring repeats what another
# worker's death interrupted; asking waits out a provider's bad hour; recording must not be lost at all.
PREPARING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=2), maximum_interval=timedelta(seconds=30), maximum_attempts=8
    ),
)
MEASURING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=60),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=20
    ),
)
ASKING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=30),
    schedule_to_close_timeout=timedelta(hours=2),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)),
)
RECORDING = ActivityConfig(
    start_to_close_timeout=timedelta(minutes=2),
    heartbeat_timeout=_HEARTBEAT,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30)
    ),
)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A run, as its steps see it."""

    ref: RunRef
    plan: Plan
    control: Control

    @property
    def priority(self) -> Priority:
        """Where tasks wait for a worker, runs of different targets take turns."""
        return Priority(priority_key=self.plan.priority, fairness_key=self.plan.fairness_key or None)

    async def call(
        self,
        method: Callable[[Any, _In], Awaitable[_Out]],
        request: _In,
        config: ActivityConfig,
        summary: str,
    ) -> _Out:
        """Execute an activity of the run, with a summary for the UI."""
        return await call(method, request, config | ActivityConfig(priority=self.priority), summary)


async def call(
    method: Callable[[Any, _In], Awaitable[_Out]], request: _In, config: ActivityConfig, summary: str
) -> _Out:
    """Execute an activity, with a summary for the UI."""
    how = config | ActivityConfig(summary=summary)
    return await workflow.execute_activity_method(method, request, **how)
