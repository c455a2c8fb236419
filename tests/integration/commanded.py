"""A commander that is asked again and again about one project: real gateway, real Postgres, no Temporal."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
from gateway_process import SECRET, GatewayProcess

from qefleet.agents.catalogue import built_in
from qefleet.contracts.runs import AgentResult, CommonInput, Decision, Usage
from qefleet.contracts.steps import Closed, CloseRun, Judge, OpenRun, Plan, RecordStep, StepPlan, StepRef
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.fleet.conversations import Conversations
from qefleet.fleet.shown_memory import MemoryViews
from qefleet.fleet.steps import Steps
from qefleet.fleet.store import RunStore
from qefleet.graphs.operate import GraphOperations
from qefleet.learning.store import LearningStore
from qefleet.llm.client import ModelClient
from qefleet.llm.models import ModelChoice
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule
from qefleet.workspace.workspace import Workspaces

MODEL = "openai/gpt-4.1-mini"
STEP = "fleet-commander#0"
PLANNED = {
    "tasks": [
        {"id": "tests", "agent": "test-executor", "goal": "Run them."},
        {"id": "cover", "agent": "coverage-analyzer", "goal": "Measure.", "depends_on": ["tests"]},
    ]
}


@dataclass
class Commanded:
    """One worker, and what it reaches."""

    pool: asyncpg.Pool
    provider: ScriptedProvider
    gateway: GatewayProcess

    @property
    def steps(self) -> Steps:
        """A fresh worker's: nothing is kept between two uses but in Postgres."""
        return Steps(
            catalogue=built_in(),
            store=RunStore(self.pool),
            workspaces=cast("Workspaces", None),
            artifacts=Artifacts(self.pool),
            client=ModelClient(gateway_url=self.gateway.url, secret=SECRET),
            models=ModelChoice(default=MODEL, providers=frozenset({"openai"})),
            operations=cast("GraphOperations", None),
            conversations=Conversations(self.pool),
            memory=MemoryViews(self.pool),
            learning=cast("LearningStore", None),
        )

    async def open(
        self, *, request: str = "Test what is not tested yet.", project: str = "planted", **options: Any
    ) -> UUID:
        """A run of its own."""
        run, store = uuid4(), RunStore(self.pool)
        step = StepPlan(
            step=STEP,
            agent="fleet-commander",
            title="fleet-commander",
            on_failure="stop",
            looped=False,
            options={"request": request, **options},
        )
        opened = OpenRun(run=str(run), workflow_id=f"wf-{run}", pattern="Hierarchical", input=CommonInput())
        await store.open(opened, Plan(target="/x", model=MODEL, steps=[step]))
        digest = "ab" * 32
        await store.set_snapshot(
            str(run), Snapshot(digest=digest, name=project, version="1", files=1, size_bytes=1)
        )
        await store.set_environment(
            str(run), Environment(digest=digest, requirements=digest, python="3.11", packages=1)
        )
        return run

    async def judge(self, run: UUID) -> tuple[AgentResult, str, float]:
        """Measure and ask; the result, the digest of the answer and the seconds that asking took."""
        steps, ref = self.steps, StepRef(run=str(run), workflow_id=f"wf-{run}", step=STEP)
        finding = await steps.measure(ref)
        assert finding.evidence is not None
        started = time.perf_counter()
        answer = await steps.judge(Judge(**ref.model_dump(), evidence=finding.evidence))
        took_s = time.perf_counter() - started
        assert answer.content is not None
        result = AgentResult(
            step=STEP, agent="fleet-commander", status="completed", headline=finding.headline
        )
        return result, answer.content, took_s

    async def use(self, run: UUID, *, decision: Decision | None = Decision.GO) -> float:
        """One whole use: ask, record, end the run; the seconds that asking took."""
        result, answer, took_s = await self.judge(run)
        await self.steps.record(
            RecordStep(run=str(run), workflow_id=f"wf-{run}", result=result, judgement=answer)
        )
        await self.close(run, decision)
        return took_s

    async def close(self, run: UUID, decision: Decision | None) -> None:
        request = CloseRun(run=str(run), workflow_id=f"wf-{run}", steps=[STEP], decision=decision, notes=[])
        report = await Artifacts(self.pool).put(b"#", name="report.md", media_type="text/markdown")
        await RunStore(self.pool).close(request, Closed(report=report, patch=None, usage=Usage()))

    async def prompts(self) -> list[list[dict[str, Any]]]:
        """The messages of each request that the provider got."""
        return [request.body["messages"] for request in await self.provider.requests()]


@asynccontextmanager
async def commanded(dsn: str, folder: Path) -> AsyncGenerator[Commanded]:
    """A gateway, a provider that always plans the same, and a migrated database."""
    async with (
        ScriptedProvider() as provider,
        GatewayProcess(dsn, provider.url, folder / "log") as gateway,
        await open_pool(dsn) as pool,
    ):
        await provider.script([Rule(reply=PLANNED)])
        yield Commanded(pool, provider, gateway)
