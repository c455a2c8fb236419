"""Agents of other distributions: found by their entry points, refused in words when they can't be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qefleet.agents.catalogue import built_in
from qefleet.agents.installed import installed
from qefleet.errors import SettingsError
from qefleet.testing.agents import AGENTS
from qefleet.testing.distribution import TESTING_AGENTS, lay_distribution

_MODULE = """
from dataclasses import replace
from qefleet.agents import Judgement, Measure, Model
from qefleet.testing.agents import AGENTS, ECHO_ITEM, SLOW

class Needs(Model):
    what: str

def a_generator():
    yield SLOW

GENERATED = a_generator()
TAKEN = replace(SLOW, id="quality-gate")
UNNAMEABLE = replace(SLOW, id="My Agent")
UNDOTTED = replace(SLOW, measures=(Measure("count", "items"),))
DEMANDING = replace(SLOW, options=Needs)
SPEECHLESS = replace(ECHO_ITEM, judgement=replace(ECHO_ITEM.judgement, package="qefleet.agents"))
NOTHING = []
MIXED = [SLOW, "slow"]
TEXT = "slow"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a module `their_agents`."""
    (tmp_path / "their_agents.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))  # pyright: ignore[reportUnknownMemberType] - bare in pytest
    return tmp_path


@pytest.mark.usefixtures("place")
def test_nothing_is_installed_by_itself() -> None:
    """The fleet's own agents, in their order."""
    assert [agent.id for agent in installed()] == [agent.id for agent in built_in()]


def test_agents_come_from_their_distributions(place: Path) -> None:
    """Beside the fleet's own, each with the name of the distribution that it is from."""
    lay_distribution(place)

    catalogue = installed()

    assert [agent.id for agent in catalogue] == [agent.id for agent in (*built_in(), *AGENTS)]
    assert catalogue.get("slow") is AGENTS[-1]
    assert (catalogue.distribution("slow"), catalogue.distribution("quality-gate")) == (
        "qefleet-testing-agents",
        "qefleet",
    )


def test_any_iterable_of_agents_will_do(place: Path) -> None:
    """A generator is as good as a tuple, or one agent."""
    lay_distribution(place, {"some": "their_agents:GENERATED"})

    assert "slow" in installed()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:X", r"it can't be imported (ModuleNotFoundError: No module named 'no_such_module')"),
        ("their_agents:NO_SUCH", "it can't be imported (AttributeError: "),
        (
            "their_agents:TEXT",
            "their_agents:TEXT must be a qefleet.agents.Agent or a list of them, and holds str",
        ),
        (
            "their_agents:MIXED",
            "their_agents:MIXED must be a qefleet.agents.Agent or a list of them, and holds str",
        ),
        ("their_agents:NOTHING", "and holds nothing"),
        (
            "their_agents:TAKEN",
            "the id quality-gate is taken by the fleet itself: give the agent another one",
        ),
        ("their_agents:UNNAMEABLE", "'My Agent' is no agent's id: write it as my-agent"),
        ("their_agents:UNDOTTED", "slow measures 'count': a metric's name is dotted, such as todo.count"),
        ("their_agents:DEMANDING", "slow: each of its options needs a default"),
        ("their_agents:SPEECHLESS", "does Judgement name its package?"),
    ],
)
def test_what_can_not_be_used_is_told_with_its_place(place: Path, value: str, why: str) -> None:
    """The distribution, the entry point, what is wrong, and what to do."""
    lay_distribution(place, {"theirs": value}, name="acme-agents")

    with pytest.raises(SettingsError) as caught:
        installed()

    message = str(caught.value)
    assert message.startswith("agents of acme-agents (entry point theirs of qefleet.agents): ")
    assert why in message
    assert message.endswith("Mend it, or uninstall acme-agents")


def test_two_distributions_with_one_id(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one by name is refused, and told who was first."""
    lay_distribution(place / "one", TESTING_AGENTS, name="b-agents")
    lay_distribution(place / "two", {"slow": "qefleet.testing.agents:SLOW"}, name="c-agents")
    monkeypatch.setattr(sys, "path", [str(place / "two"), str(place / "one"), *sys.path])

    with pytest.raises(SettingsError, match="the id slow is taken by b-agents, entry point testing"):
        installed()
