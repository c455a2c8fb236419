"""The activities of an agent's step."""

from __future__ import annotations

from activities.edge import implements
from qefleet.contracts.learning import Choice, Depth, Rewarded
from qefleet.contracts.ports import AgentPort
from qefleet.contracts.steps import (
    Answer,
    ChooseDepth,
    ChooseStrategy,
    Conclude,
    Finding,
    Judge,
    Recorded,
    RecordStep,
    RewardStrategy,
    Round,
    StepRef,
    SumUp,
    SumUpResult,
    Trial,
    Verdict,
)
from qefleet.fleet.steps import Steps


class AgentActivities(AgentPort):
    """Measuring, asking, trying, recording."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    @implements(AgentPort.measure)
    async def measure(self, step: StepRef) -> Finding:
        return await self._steps.measure(step)

    @implements(AgentPort.judge)
    async def judge(self, request: Judge) -> Answer:
        return await self._steps.judge(request)

    @implements(AgentPort.operate)
    async def operate(self, request: StepRef) -> Answer:
        return await self._steps.operate(request)

    @implements(AgentPort.choose_strategy)
    async def choose_strategy(self, request: ChooseStrategy) -> Choice:
        return await self._steps.choose_strategy(request)

    @implements(AgentPort.choose_depth)
    async def choose_depth(self, request: ChooseDepth) -> Depth:
        return await self._steps.choose_depth(request)

    @implements(AgentPort.reward_strategy)
    async def reward_strategy(self, request: RewardStrategy) -> Rewarded:
        return await self._steps.reward_strategy(request)

    @implements(AgentPort.propose)
    async def propose(self, request: Round) -> Answer:
        return await self._steps.propose(request)

    @implements(AgentPort.draft)
    async def draft(self, request: Round) -> Answer:
        return await self._steps.draft(request)

    @implements(AgentPort.try_proposal)
    async def try_proposal(self, request: Trial) -> Verdict:
        return await self._steps.try_proposal(request)

    @implements(AgentPort.conclude)
    async def conclude(self, request: Conclude) -> Finding:
        return await self._steps.conclude(request)

    @implements(AgentPort.record)
    async def record(self, request: RecordStep) -> Recorded:
        return await self._steps.record(request)

    @implements(AgentPort.sum_up)
    async def sum_up(self, request: SumUp) -> SumUpResult:
        return await self._steps.sum_up(request)
