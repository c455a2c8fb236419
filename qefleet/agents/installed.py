"""Agents of other distributions, by the entry point group `qefleet.agents`.

Nothing is looked for at import: the composition root asks for `installed()` once.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from pydantic import TypeAdapter, ValidationError

from qefleet.agents.agent import Agent
from qefleet.agents.catalogue import Catalogue, built_in
from qefleet.agents.prompt import load_prompt
from qefleet.contracts.runs import AgentId, MetricName
from qefleet.errors import SettingsError

GROUP = "qefleet.agents"

_ID = TypeAdapter[str](AgentId)
_METRIC = TypeAdapter[str](MetricName)


def installed() -> Catalogue:
    """The fleet's own agents, and those of the distributions that are installed beside it.

    Raises:
        SettingsError: One of them can't be used; the message names its distribution and its entry point.
    """
    catalogue = list(built_in())
    distributions: dict[str, str] = {}
    taken = {agent.id: "the fleet itself" for agent in catalogue}
    # Sorted: which of two distributions comes first must not depend on the order of folders on a disk.
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: (_name(point), point.name)):
        for agent in _load(point):
            _check(agent, point, taken)
            taken[agent.id] = f"{_name(point)}, entry point {point.name}"
            distributions[agent.id] = _name(point)
            catalogue.append(agent)
    return Catalogue(catalogue, distributions=distributions)


def _load(point: metadata.EntryPoint) -> list[Agent]:
    try:
        value = point.load()
    except Exception as error:  # whatever a foreign module does when it is imported
        raise _refused(point, f"it can't be imported ({type(error).__name__}: {error})") from error
    found: list[object]
    match value:
        case Iterable() if not isinstance(value, str | Agent):
            found = [*value]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - a foreign value
        case _:
            found = [value]
    wrong = [type(item).__name__ for item in found if not isinstance(item, Agent)]
    if wrong or not found:
        what = wrong[0] if wrong else "nothing"
        raise _refused(
            point, f"{point.value} must be a qefleet.agents.Agent or a list of them, and holds {what}"
        )
    return [item for item in found if isinstance(item, Agent)]


def _check(agent: Agent, point: metadata.EntryPoint, taken: dict[str, str]) -> None:
    try:
        _ID.validate_python(agent.id)
    except ValidationError:
        raise _refused(point, f"{agent.id!r} is no agent's id: write it as my-agent") from None
    if agent.id in taken:
        raise _refused(point, f"the id {agent.id} is taken by {taken[agent.id]}: give the agent another one")
    for measure in agent.measures:
        try:
            _METRIC.validate_python(measure.name)
        except ValidationError:
            raise _refused(
                point, f"{agent.id} measures {measure.name!r}: a metric's name is dotted, such as todo.count"
            ) from None
    try:
        agent.options()
    except ValidationError:
        raise _refused(point, f"{agent.id}: each of its options needs a default") from None
    if agent.judgement:
        try:
            load_prompt(agent.judgement.prompt, agent.judgement.package)
        except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
            raise _refused(
                point, f"{agent.id}: its prompt can't be read ({error}); does Judgement name its package?"
            ) from error


def _name(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "an unnamed distribution"


def _refused(point: metadata.EntryPoint, why: str) -> SettingsError:
    return SettingsError(
        f"agents of {_name(point)} (entry point {point.name} of {GROUP}): {why}. "
        f"Mend it, or uninstall {_name(point)}"
    )
