"""Runs and steps in Postgres: what was asked, what was found, written once however often it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg

from qefleet.agents.agent import Agent
from qefleet.contracts.runs import AgentResult, RunInput, Usage
from qefleet.contracts.steps import Closed, CloseRun, OpenRun, Plan, StepPlan
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.errors import TargetError
from qefleet.llm.receipts import usage_of
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.fleet").joinpath("runs.sql").read_text("utf-8"))


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """A run's row."""

    run_id: UUID
    workflow_id: str
    pattern: str
    input: RunInput
    plan: Plan
    snapshot: Snapshot | None
    environment: Environment | None

    def step(self, name: str) -> tuple[StepPlan, int]:
        """A step's plan, and its position among the run's agents."""
        for position, step in enumerate(self.plan.steps):
            if step.step == name:
                return step, position
        raise KeyError(name)

    def options(self, position: int, agent: Agent) -> Any:
        """The options with which the agent at this position was asked for; checked when the run opened."""
        agents = self.input.agents
        return agent.options.model_validate(agents[position].options if agents else {})

    def require_snapshot(self) -> Snapshot:
        """The snapshot.

        Raises:
            TargetError: None was taken yet.
        """
        if self.snapshot is None:
            raise TargetError("the run has no snapshot yet: take_snapshot comes first")
        return self.snapshot

    def require_environment(self) -> Environment:
        """The environment.

        Raises:
            TargetError: None was prepared yet.
        """
        if self.environment is None:
            raise TargetError("the run has no environment yet: prepare_environment comes first")
        return self.environment


class RunStore:
    """Reads and writes runs; every write is idempotent, so that a retried activity changes nothing.

    Args:
        pool: As `open_pool` gives it.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def open(self, request: OpenRun, plan: Plan) -> None:
        """Enter a run; the first entry stands."""
        run_input = request.input
        await self._execute(
            "open_run",
            UUID(request.run),
            request.workflow_id,
            request.pattern,
            run_input.model_dump(mode="json"),
            plan.model_dump(mode="json"),
            plan.model,
            run_input.budget_usd,
            plan.target,
        )

    async def load(self, run: str) -> RunEntry:
        """A run's row.

        Raises:
            TargetError: There is no such run in this database.
        """
        row = await retrying(lambda: self._pool.fetchrow(_QUERIES["load_run"], UUID(run)))
        if row is None:
            raise TargetError(
                f"run {run} isn't in this database: is QE_DATABASE_URL the one it was started with?"
            )
        return RunEntry(
            run_id=row["run_id"],
            workflow_id=row["workflow_id"],
            pattern=row["pattern"],
            input=RunInput.model_validate(row["input"]),
            plan=Plan.model_validate(row["plan"]),
            snapshot=Snapshot.model_validate(row["snapshot"]) if row["snapshot"] else None,
            environment=Environment.model_validate(row["environment"]) if row["environment"] else None,
        )

    async def set_snapshot(self, run: str, snapshot: Snapshot) -> Snapshot:
        """Note the run's snapshot; the first one stands, and is returned."""
        stored = await self._fetchval("set_run_snapshot", UUID(run), snapshot.model_dump(mode="json"))
        return Snapshot.model_validate(stored)

    async def set_environment(self, run: str, environment: Environment) -> Environment:
        """Note the run's environment; the first one stands, and is returned."""
        stored = await self._fetchval("set_run_environment", UUID(run), environment.model_dump(mode="json"))
        return Environment.model_validate(stored)

    async def results(self, run: str, steps: Sequence[str]) -> list[AgentResult]:
        """Recorded results, in the order of `steps`; those not recorded are left out."""
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["step_results"], UUID(run), list(steps)))
        by_step = {row["step"]: AgentResult.model_validate(row["result"]) for row in rows}
        return [by_step[step] for step in steps if step in by_step]

    async def record(
        self, run: str, result: AgentResult, *, memory_key: str, task: dict[str, Any], action: str
    ) -> None:
        """Write a step's result, what is remembered of it, and its trajectory, in one transaction.

        Args:
            run: The run's id.
            result: As it will be returned.
            memory_key: Where the latest such result is remembered.
            task: Features of the task, for the learner.
            action: What was chosen to do it with.
        """
        run_id, body = UUID(run), result.model_dump(mode="json")
        remembered = {
            "run": run,
            **{key: body[key] for key in ("status", "headline", "decision", "measured")},
        }

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    _QUERIES["record_step"], run_id, result.step, result.agent, result.status, body
                )
                await connection.execute(_QUERIES["remember"], memory_key, remembered, run_id, result.step)
                await connection.execute(
                    _QUERIES["record_trajectory"],
                    run_id,
                    result.step,
                    result.agent,
                    task,
                    action,
                    body["measured"],
                )

        await retrying(write)

    async def close(self, request: CloseRun, closed: Closed) -> None:
        """Note a run's end."""
        decision = request.decision.value if request.decision else None
        await self._execute("close_run", UUID(request.run), decision, closed.model_dump(mode="json"))

    async def usage(self, run: str, step: str | None = None) -> Usage:
        """What the run's model calls, or one step's, cost: from the ledger."""
        return await usage_of(self._pool, UUID(run), step)

    async def _execute(self, name: str, *values: object) -> None:
        await retrying(lambda: self._pool.execute(_QUERIES[name], *values))

    async def _fetchval(self, name: str, *values: object) -> Any:
        return await retrying(lambda: self._pool.fetchval(_QUERIES[name], *values))
