"""Checks of a run's input against the agents: what a condition asks about, and options.

They are made when a run opens: a misspelt metric is an error then, not a condition that never holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from qefleet.agents.agent import Agent, Measure
from qefleet.contracts.base import Model
from qefleet.contracts.conditions import Condition
from qefleet.contracts.measured import Measurement
from qefleet.contracts.runs import Thresholds
from qefleet.contracts.steps import ConditionCheck
from qefleet.errors import InvalidInput

ITEMS = (
    Measure("items.total", "items", additive=True),
    Measure("items.completed", "items", additive=True),
    Measure("items.failed", "items", additive=True),
)
"""What the summed result of an expansion carries besides its agent's additive metrics."""

_NEAR = 5


def check_condition(
    check: ConditionCheck, agents_by_step: Mapping[str, Agent], *, expanded: Collection[str] = ()
) -> None:
    """Check that each part of a condition asks about something that may have been found by then.

    Args:
        check: The condition, its place in the input, and the steps that may have ended when it is asked.
        agents_by_step: The run's agents by step; a step without one measures nothing.
        expanded: Steps that are run on each item of a list: their results sum up what can be summed.

    Raises:
        InvalidInput: No such step measures the metric, `step` isn't one of them, or none of them decides.
            The message lists what comes near.
    """
    agents = {step: agents_by_step[step] for step in check.steps if step in agents_by_step}
    measures = {step: _measures(agent, expanded=step in expanded) for step, agent in agents.items()}
    for path, leaf in check.condition.leaves(check.field):
        _check_leaf(leaf, path, check.steps, agents, measures)


def _check_leaf(
    leaf: Condition,
    path: str,
    steps: Collection[str],
    agents: Mapping[str, Agent],
    measures: Mapping[str, Collection[Measure]],
) -> None:
    if leaf.step is not None and leaf.step not in steps:
        raise InvalidInput(path, f"no such step ends before; {near(leaf.step, steps)}")
    if leaf.decision and not any(agent.gates for agent in agents.values()):
        raise InvalidInput(
            path, "no agent before decides anything: put one that gates first, such as quality-gate"
        )
    if leaf.metric is None:
        return
    sources = {m.name for found in measures.values() for m in found if not m.relayed}
    if leaf.metric not in sources:
        raise InvalidInput(path, f"no step before measures this metric; {near(leaf.metric, sources)}")
    own = {m.name for m in measures.get(leaf.step, ())} if leaf.step else sources
    if leaf.metric not in own:
        raise InvalidInput(path, f"{leaf.step} doesn't measure this metric; {near(leaf.metric, own)}")


def check_limits(thresholds: Thresholds, agents: Iterable[Agent]) -> None:
    """Check that each limit is about something that some agent measures.

    Raises:
        InvalidInput: None does; the message lists what comes near.
    """
    known = {measure.name for agent in agents for measure in agent.measures}
    for name in thresholds.metrics:
        if name not in known:
            raise InvalidInput(
                f"thresholds.metrics.{name}", f"no agent measures this metric; {near(name, known)}"
            )


def check_options(agent: Agent, options: Mapping[str, Any], *, field: str) -> Model:
    """An agent's options, checked.

    Raises:
        InvalidInput: An option is unknown or has an unusable value; its path begins with `field`.
    """
    try:
        return agent.options.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        path = ".".join([field, *(str(part) for part in first["loc"])])
        raise InvalidInput(path, first["msg"].removeprefix("Value error, ")) from None


def undeclared(agent: Agent, measurement: Measurement) -> list[str]:
    """Metrics that a measurement carries and its agent doesn't declare: no condition could ask about them."""
    return sorted(measurement.metrics.keys() - {measure.name for measure in agent.measures})


def _measures(agent: Agent, *, expanded: bool) -> list[Measure]:
    if not expanded:
        return list(agent.measures)
    return [*(measure for measure in agent.measures if measure.additive), *ITEMS]


def near(name: str, known: Iterable[str]) -> str:
    """A sentence with the names that were most likely meant; the name itself isn't repeated."""
    names = sorted(known)
    near = get_close_matches(name, names, n=_NEAR, cutoff=0.5)
    if near:
        return f"near it: {', '.join(near)}"
    if not names:
        return "there is none"
    more = f" and {len(names) - _NEAR} more" if len(names) > _NEAR else ""
    return f"there are: {', '.join(names[:_NEAR])}{more}"
