"""The pages of the agents say what the declarations say."""

from __future__ import annotations

import json

import pytest
from agent_pages.examples import FOLDER, WHEN, example_of
from agent_pages.pages import pages

from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import check_options

AGENTS = {agent.id: agent for agent in built_in()}


@pytest.mark.parametrize("name", sorted(pages()))
def test_page_is_up_to_date(name: str) -> None:
    """`make agent-pages` writes what is here."""
    assert (FOLDER / name).read_text("utf-8") == pages()[name]


def test_no_page_is_left_of_an_agent_that_is_gone() -> None:
    """Nor a result."""
    assert {path.name for path in FOLDER.glob("*.md")} == {*pages()}
    assert {path.stem for path in (FOLDER / "results").glob("*.json")} <= {*AGENTS}


@pytest.mark.parametrize("agent_id", sorted(AGENTS))
def test_page_shows_a_real_result_and_who_wants_it(agent_id: str) -> None:
    """Recorded by `make agent-results`, completed, and without a folder of the machine that recorded it."""
    text = (FOLDER / "results" / f"{agent_id}.json").read_text("utf-8")

    assert json.loads(text)["status"] == "completed"
    assert "/work/" not in text
    assert "/tmp/" not in text
    assert WHEN[agent_id]


@pytest.mark.parametrize("agent_id", sorted(AGENTS))
def test_example_has_options_that_the_agent_takes(agent_id: str) -> None:
    """As a run's opening checks them."""
    check_options(AGENTS[agent_id], example_of(agent_id).options, field="options")
