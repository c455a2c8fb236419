"""The agents that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qefleet.agents.agent import Agent
from qefleet.agents.coverage_analyzer import COVERAGE_ANALYZER
from qefleet.agents.quality_gate import QUALITY_GATE
from qefleet.agents.test_executor import TEST_EXECUTOR
from qefleet.agents.test_generator import TEST_GENERATOR
from qefleet.errors import InvalidInput


class Catalogue:
    """Agents by id."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self._agents = {agent.id: agent for agent in agents}

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def get(self, agent_id: str, *, field: str = "agent") -> Agent:
        """The agent with this id.

        Raises:
            InvalidInput: There is none; the message lists those that there are.
        """
        agent = self._agents.get(agent_id)
        if agent is None:
            raise InvalidInput(field, f"no such agent; known: {', '.join(self._agents)}")
        return agent


def built_in() -> Catalogue:
    """The agents that ship with the fleet."""
    return Catalogue([TEST_GENERATOR, TEST_EXECUTOR, COVERAGE_ANALYZER, QUALITY_GATE])
