"""The flows that ship hang together with the agents that there are."""

from __future__ import annotations

import pytest

from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import check_condition, check_options
from qefleet.contracts.flows import ancestors
from qefleet.contracts.steps import ConditionCheck
from qefleet.errors import InvalidInput
from qefleet.flows import NAMES, shipped


@pytest.mark.parametrize("name", NAMES)
def test_each_flow_could_be_started(name: str) -> None:
    """Its agents exist unless they are optional, take their options, and measure what its conditions ask."""
    catalogue = built_in()
    steps = [
        step
        for step in shipped(name)
        if not step.optional or all(spec.spec.agent in catalogue for spec in step.specs(""))
    ]
    specs = {step.id: step.specs(step.id) for step in steps}
    agents = {spec.step: catalogue.get(spec.spec.agent) for found in specs.values() for spec in found}
    for found in specs.values():
        for spec in found:
            check_options(agents[spec.step], spec.spec.options, field=spec.field)
    before = ancestors(shipped(name))

    for step in steps:
        if step.when:
            earlier = [spec.step for other in before[step.id] for spec in specs.get(other, [])]
            check_condition(ConditionCheck(field=step.id, condition=step.when, steps=earlier), agents)


def test_canonical_run_reads_as_it_is_described() -> None:
    """Requirements, parts, generated and executed by part, coverage over all, the gate; others beside it."""
    flow = {step.id: step for step in shipped("canonical")}

    assert [step.id for step in flow.values() if step.optional] == ["requirements", "security", "performance"]
    assert [spec.spec.agent for spec in flow["generate"].specs("")] == ["test-generator", "test-executor"]
    assert flow["generate"].before == ["parts"]
    assert flow["cover"].depends_on == ["parts", "generate"]
    assert flow["gate"].depends_on[0] == "cover"


def test_an_unknown_flow_is_refused_with_the_known_ones() -> None:
    """By the field of the input."""
    with pytest.raises(InvalidInput, match="flow: no such flow; known: canonical"):
        shipped("canonicle")
