"""Runs and steps in Postgres: what was asked, what was found, written once however often it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import Any
from uuid import UUID

import asyncpg

from qefleet.contracts.base import Digest
from qefleet.contracts.commands import AgentHistory
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.runs import AgentResult, ApprovalRecord, CommonInput, Usage
from qefleet.contracts.steps import Closed, CloseRun, OpenRun, Plan, RunRef, StepPlan, StepRef
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.errors import TargetError
from qefleet.llm.receipts import usage_of
from qefleet.memory.values import to_json, words_of
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.fleet").joinpath("runs.sql").read_text("utf-8"))


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """A run's row."""

    run_id: UUID
    workflow_id: str
    pattern: str
    input: CommonInput
    plan: Plan
    snapshot: Snapshot | None
    environment: Environment | None

    def step(self, name: str) -> StepPlan:
        """A step's plan."""
        return next(step for step in self.plan.steps if step.step == name)

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
            # As it was written: a float's nearest number would have forty digits.
            None if run_input.budget_usd is None else Decimal(str(run_input.budget_usd)),
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
            input=CommonInput.model_validate(row["input"]),
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

    async def last_result(self, run: str, agent: str) -> AgentResult | None:
        """An agent's latest completed result on the run's project, from before the run was opened."""
        found = await self._fetchval("last_result", UUID(run), agent)
        return AgentResult.model_validate(found) if found else None

    async def history(self, run: str) -> list[AgentHistory]:
        """What each agent took on the run's project, in steps that had completed before the run opened."""
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["history"], UUID(run)))
        return [AgentHistory.model_validate(dict(row)) for row in rows]

    async def patches(self, run: str, steps: Sequence[str]) -> list[Digest]:
        """Patches of these steps in their order; an expansion's name stands for its items, in their order."""
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["patches"], UUID(run), list(steps)))
        place = {name: position for position, name in enumerate(steps)}

        def order(row: asyncpg.Record) -> tuple[int, int]:
            planned, _, ordinal = row["step"].partition("/")
            return place.get(row["step"], place.get(planned, 0)), int(ordinal or -1)

        return [row["patch"] for row in sorted(rows, key=order)]

    async def add_steps(self, run: str, steps: Sequence[StepPlan]) -> None:
        """Add steps to the run's plan; those that are there stay as they are."""
        await self._execute("add_steps", UUID(run), [step.model_dump(mode="json") for step in steps])

    async def store_items(self, run: str, source: str, items: Sequence[Item]) -> ItemList:
        """Write an expansion's list down; the first list of a name stands."""
        await self._execute(
            "store_items", UUID(run), source, [item.model_dump(mode="json") for item in items]
        )
        return ItemList(source=source, count=await self._fetchval("count_items", UUID(run), source))

    async def item(self, step: StepRef) -> Item | None:
        """The item that a step is confined to; None outside of expansions."""
        if step.items is None or step.ordinal is None:
            return None
        found = await self._fetchval("load_item", UUID(step.run), step.items, step.ordinal)
        return Item.model_validate(found)

    async def page_of_items(self, run: str, source: str, first: int, count: int) -> list[str]:
        """Names of some items of a list."""
        rows = await retrying(
            lambda: self._pool.fetch(_QUERIES["page_of_items"], UUID(run), source, first, count)
        )
        return [row["name"] for row in rows]

    async def item_results(self, run: str, step: str) -> list[dict[str, Any]]:
        """What was recorded of an expansion's items: step, status, headline, error and metrics."""
        rows = await retrying(lambda: self._pool.fetch(_QUERIES["item_results"], UUID(run), step))
        return [dict(row) for row in rows]

    async def remember_approval(self, run: RunRef, approval: ApprovalRecord) -> None:
        """Keep what a person said in memory, under `aqe/approvals/WORKFLOW/STEP`."""
        key = f"aqe/approvals/{run.workflow_id}/{run.run}/{approval.step}"
        value = approval.model_dump(mode="json")

        async def write() -> None:
            async with self._pool.acquire() as connection, connection.transaction():
                await self._remember(
                    connection, "remember_approval", key, value, run=UUID(run.run), step=approval.step
                )

        await retrying(write)

    async def record(
        self, run: str, result: AgentResult, *, memory_key: str | None, task: dict[str, Any], action: str
    ) -> None:
        """Write a step's result, what is remembered of it, and its trajectory, in one transaction.

        Args:
            run: The run's id.
            result: As it will be returned.
            memory_key: Where the latest such result is remembered; None for an expansion's item.
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
                if memory_key:
                    await self._remember(
                        connection, "remember", memory_key, remembered, run=run_id, step=result.step
                    )
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

    @staticmethod
    async def _remember(
        connection: asyncpg.Connection, name: str, key: str, value: dict[str, Any], *, run: UUID, step: str
    ) -> None:
        """Write into the memory of the run's project, inside a transaction."""
        await connection.execute(_QUERIES["enter_project"], run)
        words = words_of(key, to_json(key, value))
        await connection.execute(_QUERIES[name], key, value, run, step, words)

    async def _execute(self, name: str, *values: object) -> None:
        await retrying(lambda: self._pool.execute(_QUERIES[name], *values))

    async def _fetchval(self, name: str, *values: object) -> Any:
        return await retrying(lambda: self._pool.fetchval(_QUERIES[name], *values))
