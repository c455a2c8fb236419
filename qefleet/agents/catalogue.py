"""The agents that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from qefleet.agents.agent import Agent
from qefleet.agents.api_contract_validator import API_CONTRACT_VALIDATOR
from qefleet.agents.chaos_engineer import CHAOS_ENGINEER
from qefleet.agents.code_complexity import CODE_COMPLEXITY
from qefleet.agents.coverage_analyzer import COVERAGE_ANALYZER
from qefleet.agents.deployment_readiness import DEPLOYMENT_READINESS
from qefleet.agents.flaky_test_hunter import FLAKY_TEST_HUNTER
from qefleet.agents.fleet_commander import FLEET_COMMANDER
from qefleet.agents.performance_tester import PERFORMANCE_TESTER
from qefleet.agents.production_intelligence import PRODUCTION_INTELLIGENCE
from qefleet.agents.quality_analyzer import QUALITY_ANALYZER
from qefleet.agents.quality_gate import QUALITY_GATE
from qefleet.agents.regression_risk_analyzer import REGRESSION_RISK_ANALYZER
from qefleet.agents.requirements_validator import REQUIREMENTS_VALIDATOR
from qefleet.agents.security_scanner import SECURITY_SCANNER
from qefleet.agents.test_data_architect import TEST_DATA_ARCHITECT
from qefleet.agents.test_executor import TEST_EXECUTOR
from qefleet.agents.test_generator import TEST_GENERATOR
from qefleet.agents.visual_tester import VISUAL_TESTER
from qefleet.errors import InvalidInput

OWN_DISTRIBUTION = "qefleet"


class Catalogue:
    """Agents by id.

    Args:
        agents: All of them, each id once.
        distributions: By id, the installed distribution that an agent is from; the fleet's own without it.
    """

    def __init__(self, agents: Iterable[Agent], *, distributions: Mapping[str, str] | None = None) -> None:
        self._agents = {agent.id: agent for agent in agents}
        self._distributions = dict(distributions or {})

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._agents

    def get(self, agent_id: str, *, field: str = "agent") -> Agent:
        """The agent with this id.

        Raises:
            InvalidInput: There is none; the message lists those that there are.
        """
        agent = self._agents.get(agent_id)
        if agent is None:
            raise InvalidInput(field, f"no such agent; known: {', '.join(self._agents)}")
        return agent

    def distribution(self, agent_id: str) -> str:
        """Name of the installed distribution that an agent is from."""
        return self._distributions.get(agent_id, OWN_DISTRIBUTION)


def built_in() -> Catalogue:
    """The agents that ship with the fleet."""
    return Catalogue(
        [
            TEST_GENERATOR,
            TEST_EXECUTOR,
            COVERAGE_ANALYZER,
            QUALITY_GATE,
            QUALITY_ANALYZER,
            CODE_COMPLEXITY,
            SECURITY_SCANNER,
            FLAKY_TEST_HUNTER,
            REGRESSION_RISK_ANALYZER,
            TEST_DATA_ARCHITECT,
            API_CONTRACT_VALIDATOR,
            PERFORMANCE_TESTER,
            CHAOS_ENGINEER,
            VISUAL_TESTER,
            REQUIREMENTS_VALIDATOR,
            PRODUCTION_INTELLIGENCE,
            DEPLOYMENT_READINESS,
            FLEET_COMMANDER,
        ]
    )
