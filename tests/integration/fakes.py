"""Activities that answer without tools or models: for tests of the workflows alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from temporalio import activity

from qefleet.contracts.items import ItemList, ItemPage
from qefleet.contracts.learning import Choice, Depth, Policy, Rewarded, Strategy
from qefleet.contracts.measured import ArtifactRef, Measured
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.ports import AgentPort, RunPort
from qefleet.contracts.runs import AgentResult, ApprovalRecord, Decision, GateApproval, Usage
from qefleet.contracts.steps import (
    AddedSteps,
    AddSteps,
    Answer,
    ChooseDepth,
    ChooseStrategy,
    Closed,
    CloseRun,
    Conclude,
    Finding,
    Judge,
    Measurement,
    OpenRun,
    PageOfItems,
    Plan,
    RecordApproval,
    Recorded,
    RecordStep,
    RewardStrategy,
    Round,
    RunRef,
    StepPlan,
    StepRef,
    StoreItems,
    SumUp,
    SumUpResult,
    Trial,
    Verdict,
    WorkItem,
)
from qefleet.contracts.targets import Environment, Snapshot

DIGEST = "0" * 64
_FIGURES = (
    ("coverage", "coverage.line_percent", 75.0),
    ("test-executor", "tests.failed", 0.0),
    ("test-executor", "tests.errors", 0.0),
)


class FakeFleet(RunPort, AgentPort):
    """Answers at once; `items` and `rounds` say how long the generator's loop is.

    Args:
        items: Items that a looped agent finds.
        parts: Length of the list that coverage-analyzer finds.
        hang: A step whose measuring never ends by itself.
        commands: What commanders plan, by their step.
        rounds_needed: Rounds after which an item is done.
        fail: Raises what it wants to, given the activity's name and its request.
        model: The plan's model.
        note: What went wrong in each draft, which then has no proposal.
    """

    def __init__(
        self,
        *,
        items: int = 2,
        rounds_needed: int = 1,
        fail: Callable[[str, Any], None] | None = None,
        model: str = "local",
        parts: int = 0,
        hang: str = "",
        commands: dict[str, Any] | None = None,
        note: str = "",
    ) -> None:
        self.calls: Counter[str] = Counter()
        self.results: dict[str, AgentResult] = {}
        self.approvals: list[ApprovalRecord] = []
        self.approval: GateApproval | None = None
        self._parts = parts
        self._hang = hang
        self._commands = commands or {}
        self._items = items
        self._rounds_needed = rounds_needed
        self._fail = fail
        self._model = model
        self._note = note

    @property
    def activities(self) -> list[Callable[..., Any]]:
        return [
            self.open_run,
            self.take_snapshot,
            self.prepare_environment,
            self.add_steps,
            self.store_items,
            self.page_of_items,
            self.record_approval,
            self.close_run,
            self.measure,
            self.judge,
            self.choose_strategy,
            self.choose_depth,
            self.reward_strategy,
            self.propose,
            self.draft,
            self.try_proposal,
            self.conclude,
            self.record,
            self.sum_up,
            self.operate,
        ]

    @activity.defn(name="open_run")
    async def open_run(self, request: OpenRun) -> Plan:
        self._count("open_run", request)
        self.approval = request.input.approval
        flow = request.flow_steps or []
        specs = [*request.steps, *(spec for step in flow for spec in step.specs("steps"))]
        return Plan(
            target=str(request.input.target),
            model=self._model,
            steps=[planned(spec, request.input.policy or Policy.OFF) for spec in specs],
            approval=request.input.approval,
            flow=flow,
        )

    @activity.defn(name="add_steps")
    async def add_steps(self, request: AddSteps) -> AddedSteps:
        self._count("add_steps", request)
        return AddedSteps(steps=[planned(spec) for spec in request.steps])

    @activity.defn(name="store_items")
    async def store_items(self, request: StoreItems) -> ItemList:
        self._count("store_items", request)
        return ItemList(source=request.source, count=len(request.items or "ab"))

    @activity.defn(name="page_of_items")
    async def page_of_items(self, request: PageOfItems) -> ItemPage:
        self._count("page_of_items", request)
        return ItemPage(names=[f"item {n}" for n in range(request.first, request.first + request.count)])

    @activity.defn(name="record_approval")
    async def record_approval(self, request: RecordApproval) -> None:
        self._count("record_approval", request)
        self.approvals.append(request.approval)

    @activity.defn(name="operate")
    async def operate(self, request: StepRef) -> Answer:
        self._count("operate", request)
        return Answer(content=DIGEST)

    @activity.defn(name="sum_up")
    async def sum_up(self, request: SumUp) -> SumUpResult:
        self._count("sum_up", request)
        of_items = [r for name, r in self.results.items() if name.startswith(f"{request.step}/")]
        completed = sum(result.status == "completed" for result in of_items)
        status = "cancelled" if request.error else "completed"
        headline = f"{completed} of {request.items.count} items"
        return SumUpResult(
            result=AgentResult(
                step=request.step,
                agent=_agent(request.step),
                status=status,
                headline=headline,
                error=request.error,
            )
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
        while step.step == self._hang:
            activity.heartbeat()
            await asyncio.sleep(0.2)
        generator = step.step.startswith("test-generator")
        return Finding(
            measurement=Measurement(
                metrics={
                    name: Measured(value=value, unit="", tool=0)
                    for agent, name, value in _FIGURES
                    if step.step.startswith(agent)
                }
            ),
            headline="measured",
            decision=Decision.GO if step.step.startswith("quality-gate") else None,
            work=[WorkItem(id=f"m:f{i}", title=f"f{i}") for i in range(self._items)] if generator else [],
            state=DIGEST if generator else None,
            evidence=DIGEST if step.step.startswith("coverage") else None,
            items=ItemList(source=step.step, count=self._parts)
            if step.step.startswith("coverage") and self._parts
            else None,
        )

    @activity.defn(name="judge")
    async def judge(self, request: Judge) -> Answer:
        self._count("judge", request)
        return Answer(content=DIGEST)

    @activity.defn(name="choose_strategy")
    async def choose_strategy(self, request: ChooseStrategy) -> Choice:
        self._count("choose_strategy", request)
        strategy = Strategy.TOOLS if request.position % 2 else Strategy.DIRECT
        return Choice(strategy=strategy, uses_model=strategy.uses_model, tier="complex")

    @activity.defn(name="choose_depth")
    async def choose_depth(self, request: ChooseDepth) -> Depth:
        self._count("choose_depth", request)
        return Depth(goes_on=request.round < 3)

    @activity.defn(name="reward_strategy")
    async def reward_strategy(self, request: RewardStrategy) -> Rewarded:
        self._count("reward_strategy", request)
        return Rewarded(reward=0.5)

    @activity.defn(name="propose")
    async def propose(self, request: Round) -> Answer:
        self._count("propose", request)
        return Answer(content=DIGEST, usage=Usage(calls=1))

    @activity.defn(name="draft")
    async def draft(self, request: Round) -> Answer:
        self._count("draft", request)
        return Answer(content=None if self._note else DIGEST, note=self._note)

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
        self.results[request.result.step] = request.result
        if command := self._commands.get(request.result.step):
            return Recorded(usage=Usage(), judged=command)
        return Recorded(usage=Usage(), judged={"said": "so"} if request.judgement else None)

    def _count(self, name: str, request: Any) -> None:
        self.calls[name] += 1
        if self._fail:
            self._fail(name, request)


def planned(spec: StepSpec, policy: Policy = Policy.OFF) -> StepPlan:
    """As the catalogue would have it."""
    return StepPlan(
        step=spec.step,
        agent=spec.spec.agent,
        title=spec.spec.agent,
        on_failure=spec.spec.on_failure,
        looped=spec.spec.agent == "test-generator",
        policy=policy,
        max_rounds=3,
        options=spec.spec.options,
        timeout_minutes=spec.spec.timeout_minutes,
        approval=spec.spec.approval,
    )


def _agent(step: str) -> str:
    return step.partition("#")[0].rpartition(".")[2]
