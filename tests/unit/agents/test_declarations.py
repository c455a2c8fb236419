"""The agents' declarations hang together."""

from __future__ import annotations

import re

import pytest

from qefleet.agents.agent import Agent
from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import check_options
from qefleet.agents.prompt import load_prompt
from qefleet.contracts.patterns import (
    ConditionalInput,
    FanOutFanInInput,
    ParallelInput,
    PipelineInput,
)
from qefleet.contracts.runs import AgentSpec, RunInput
from qefleet.errors import InvalidInput


@pytest.mark.parametrize("agent", list(built_in()), ids=lambda agent: agent.id)
def test_prompt_of_each_agent_has_both_parts(agent: Agent) -> None:
    """A declared prompt is there, with a system and a task part."""
    names = [agent.judgement.prompt] if agent.judgement else []
    names += [agent.id] if agent.loop else []

    for name in names:
        prompt = load_prompt(name)
        assert prompt.system
        assert prompt.task.template


@pytest.mark.parametrize("pattern", [PipelineInput, ParallelInput, FanOutFanInInput, ConditionalInput])
def test_default_agents_exist(pattern: type[RunInput]) -> None:
    """Each pattern's default agents are in the catalogue."""
    written = pattern.model_validate("pypi:x==1").model_dump_json()
    catalogue = built_in()

    for agent in re.findall(r'"agent":"([^"]+)"', written):
        assert catalogue.get(agent).id == agent


def test_unknown_agent_names_the_field_and_the_known_ones() -> None:
    """A mistyped id is answered with those that there are."""
    with pytest.raises(InvalidInput) as caught:
        built_in().get("test-generater", field="agents.0.agent")

    assert str(caught.value).startswith("agents.0.agent: no such agent; known: test-generator, ")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_segments": 0}, "agents.2.options.max_segments"),
        ({"max_rounds": "many"}, "agents.2.options.max_rounds"),
        ({"surplus": 1}, "agents.2.options.surplus"),
    ],
)
def test_wrong_option_names_its_path(options: dict[str, object], field: str) -> None:
    """Options are checked against the agent's own type when the run opens."""
    agent = built_in().get("test-generator")
    spec = AgentSpec(agent="test-generator", options=options)

    with pytest.raises(InvalidInput) as caught:
        check_options(agent, spec.options, field="agents.2.options")

    assert caught.value.field == field
