"""Activities that answer without tools or models: for tests of the workflows alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from temporalio import activity

from qefleet.contracts.measured import ArtifactRef
from qefleet.contracts.ports import AgentPort, RunPort
from qefleet.contracts.runs import Decision, Usage
from qefleet.contracts.steps import (
    Answer,
    Closed,
    CloseRun,
    Conclude,
    Finding,
    Judge,
    Measurement,
    OpenRun,
    Plan,
    Recorded,
    RecordStep,
    Round,
    RunRef,
    StepPlan,
    StepRef,
    Trial,
    Verdict,
    WorkItem,
)
from qefleet.contracts.targets import Environment, Snapshot

DIGEST = "0" * 64


class FakeFleet(RunPort, AgentPort):
    """Answers at once; `items` and `rounds` say how long the generator's loop is.

    Args:
        agents: Ids of the agents of the plan.
        items: Items that a looped agent finds.
        rounds_needed: Rounds after which an item is done.
        fail: Raises what it wants to, given the activity's name and its request.
        model: The plan's model.
    """

    def __init__(
        self,
        agents: tuple[str, ...] = ("test-generator", "test-executor", "coverage-analyzer", "quality-gate"),
        *,
        items: int = 2,
        rounds_needed: int = 1,
        fail: Callable[[str, Any], None] | None = None,
        model: str = "local",
        on_failure: str = "stop",
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._agents = agents
        self._items = items
        self._rounds_needed = rounds_needed
        self._fail = fail
        self._model = model
        self._on_failure = on_failure

    @property
    def activities(self) -> list[Callable[..., Any]]:
        return [
            self.open_run,
            self.take_snapshot,
            self.prepare_environment,
            self.close_run,
            self.measure,
            self.judge,
            self.propose,
            self.draft,
            self.try_proposal,
            self.conclude,
            self.record,
        ]

    @activity.defn(name="open_run")
    async def open_run(self, request: OpenRun) -> Plan:
        self._count("open_run", request)
        return Plan(
            target=str(request.input.target),
            model=self._model,
            steps=[
                StepPlan(
                    step=f"{agent}#{position}",
                    agent=agent,
                    title=agent,
                    on_failure=self._on_failure,
                    looped=agent == "test-generator",
                    max_rounds=3,
                )
                for position, agent in enumerate(self._agents)
            ],
        )

    @activity.defn(name="take_snapshot")
    async def take_snapshot(self, run: RunRef) -> Snapshot:
        self._count("take_snapshot", run)
        return Snapshot(digest=DIGEST, name="x", files=1, size_bytes=1)

    @activity.defn(name="prepare_environment")
    async def prepare_environment(self, run: RunRef) -> Environment:
        self._count("prepare_environment", run)
        return Environment(digest=DIGEST, requirements=DIGEST, python="3.11.7", packages=3)

    @activity.defn(name="close_run")
    async def close_run(self, request: CloseRun) -> Closed:
        self._count("close_run", request)
        report = ArtifactRef(name="report.md", digest=DIGEST, media_type="text/markdown", size_bytes=1)
        return Closed(report=report, patch=None, usage=Usage())

    @activity.defn(name="measure")
    async def measure(self, step: StepRef) -> Finding:
        self._count("measure", step)
        generator = step.step.startswith("test-generator")
        return Finding(
            measurement=Measurement(),
            headline="measured",
            decision=Decision.GO if step.step.startswith("quality-gate") else None,
            work=[WorkItem(id=f"m:f{i}", title=f"f{i}") for i in range(self._items)] if generator else [],
            state=DIGEST if generator else None,
            evidence=DIGEST if step.step.startswith("coverage") else None,
        )

    @activity.defn(name="judge")
    async def judge(self, request: Judge) -> Answer:
        self._count("judge", request)
        return Answer(content=DIGEST)

    @activity.defn(name="propose")
    async def propose(self, request: Round) -> Answer:
        self._count("propose", request)
        return Answer(content=DIGEST, usage=Usage(calls=1))

    @activity.defn(name="draft")
    async def draft(self, request: Round) -> Answer:
        self._count("draft", request)
        return Answer(content=DIGEST)

    @activity.defn(name="try_proposal")
    async def try_proposal(self, request: Trial) -> Verdict:
        self._count("try_proposal", request)
        return Verdict(
            state=DIGEST, kept=1, done=request.round >= self._rounds_needed, headline=f"{request.item} tried"
        )

    @activity.defn(name="conclude")
    async def conclude(self, request: Conclude) -> Finding:
        self._count("conclude", request)
        return Finding(measurement=Measurement(), headline="concluded", patch=DIGEST, notes=request.notes)

    @activity.defn(name="record")
    async def record(self, request: RecordStep) -> Recorded:
        self._count("record", request)
        return Recorded(usage=Usage(), judged={"said": "so"} if request.judgement else None)

    def _count(self, name: str, request: Any) -> None:
        self.calls[name] += 1
        if self._fail:
            self._fail(name, request)
