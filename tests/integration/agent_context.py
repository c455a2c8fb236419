"""One agent over one ground: its step's context without database and server."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from qefleet.agents.agent import Agent, StepContext
from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import undeclared
from qefleet.contracts.changes import Changes
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.measured import ArtifactRef
from qefleet.contracts.runs import AgentResult, Thresholds
from qefleet.contracts.steps import Finding
from qefleet.memory.artifacts import Artifacts, reference
from qefleet.tools.ground import Ground
from qefleet.workspace.workspace import Workspace


@dataclass
class KeptInMemory:
    """Artifacts that last as long as the test."""

    kept: dict[str, bytes] = field(default_factory=dict[str, bytes])

    async def put(self, content: bytes, *, name: str, media_type: str) -> ArtifactRef:
        self.kept[hashlib.sha256(content).hexdigest()] = content
        return reference(content, name=name, media_type=media_type)

    async def get(self, digest: str) -> bytes:
        return self.kept[digest]


@dataclass(frozen=True)
class Alone:
    """What an agent found, and all that it kept."""

    finding: Finding
    artifacts: KeptInMemory
    took_s: float
    ctx: StepContext
    """What it worked with: for the rounds of a loop."""
    items: Sequence[Item] = ()

    def value(self, metric: str) -> float | None:
        return self.finding.measurement.value(metric)

    def reason(self, metric: str) -> str:
        """Why a metric is not measured."""
        found = self.finding.measurement.metrics[metric]
        assert found.kind == "unmeasured", found
        return found.reason

    @property
    def details(self) -> dict[str, Any]:
        return self.finding.measurement.details

    @property
    def evidence(self) -> Any:
        """What a model would be shown."""
        return json.loads(self.artifacts.kept[self.finding.evidence]) if self.finding.evidence else None

    @property
    def overhead_s(self) -> float:
        """Seconds that were not the tools' own."""
        return self.took_s - sum(run.duration_s for run in self.finding.measurement.tools)

    def result(self, agent: Agent) -> AgentResult:
        """As it would be recorded."""
        return AgentResult(
            step=f"{agent.id}#0",
            agent=agent.id,
            status="completed",
            headline=self.finding.headline,
            measured=self.finding.measurement,
            artifacts=self.finding.artifacts,
        )


async def measure_alone(
    agent: Agent,
    ground: Ground,
    *,
    options: dict[str, Any] | None = None,
    base: Ground | None = None,
    changes: Changes | None = None,
    churn: Mapping[str, int] | None = None,
    last: AgentResult | None = None,
    earlier: Sequence[AgentResult] = (),
    item: Item | None = None,
    allowed_hosts: frozenset[str] = frozenset(),
    artifacts: KeptInMemory | None = None,
) -> Alone:
    """Have an agent measure, and hold its metrics against its declaration.

    Args:
        agent: Who measures.
        ground: Where.
        options: As a run's input has them.
        base: In diff mode: the project before.
        changes: In diff mode: what changed since.
        churn: In diff mode: commits that touched each file.
        last: Its latest result on the same project.
        earlier: Results of the steps before.
        item: The part that it is confined to.
        allowed_hosts: Whom it may send requests to.
        artifacts: Those of an earlier run, where `last` names some.
    """
    kept, items = artifacts or KeptInMemory(), list[Item]()
    ctx = step_context(
        agent,
        ground,
        options=options,
        base=base,
        changes=changes,
        churn=churn,
        last=last,
        earlier=earlier,
        item=item,
        allowed_hosts=allowed_hosts,
        artifacts=kept,
        items=items,
    )
    started = time.monotonic()
    finding = await agent.measure(ctx)
    took_s = time.monotonic() - started
    assert undeclared(agent, finding.measurement) == []
    for metric in finding.measurement.metrics.values():
        assert metric.kind == "unmeasured" or 0 <= metric.tool < len(finding.measurement.tools)
    return Alone(finding, kept, took_s, ctx, items)


def step_context(
    agent: Agent,
    ground: Ground,
    *,
    artifacts: KeptInMemory,
    options: dict[str, Any] | None = None,
    base: Ground | None = None,
    changes: Changes | None = None,
    churn: Mapping[str, int] | None = None,
    last: AgentResult | None = None,
    earlier: Sequence[AgentResult] = (),
    item: Item | None = None,
    allowed_hosts: frozenset[str] = frozenset(),
    items: list[Item] | None = None,
    uses_model: bool = True,
) -> StepContext:
    """What an agent works with; `items` takes up the parts of the work that it finds."""

    kept = artifacts

    async def keep_items(found: Sequence[Item]) -> ItemList:
        if items is not None:
            items.extend(found)
        return ItemList(source=f"{agent.id}#0", count=len(found))

    async def remembered() -> AgentResult | None:
        return last

    return StepContext(
        run="00000000-0000-0000-0000-000000000000",
        workflow_id="qe-alone",
        step=f"{agent.id}#0",
        options=agent.options.model_validate(options or {}),
        thresholds=Thresholds(),
        earlier=earlier,
        artifacts=cast("Artifacts", kept),
        workspace=_opens(ground),
        unpatched=_opens(ground),
        catalogue=built_in(),
        keep_items=keep_items,
        item=item,
        changes=changes,
        churn=churn,
        base_workspace=_opens(base) if base else None,
        last=cast("Callable[[], Awaitable[AgentResult | None]]", remembered),
        allowed_hosts=allowed_hosts,
        uses_model=uses_model,
    )


def _opens(ground: Ground) -> Callable[[], Any]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Workspace]:
        yield cast("Workspace", ground)

    return opened
