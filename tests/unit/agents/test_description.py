"""What is told of an agent, from its declaration."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement
from qefleet.agents.catalogue import built_in
from qefleet.agents.citations import Citation
from qefleet.agents.description import Option, describe, limit_in_words
from qefleet.contracts.base import Model
from qefleet.contracts.runs import Limit, RunInput
from qefleet.testing.agents import SLOW


class Part(Model):
    first: str
    second: int = 0


class Options(Model):
    count: Annotated[int, Field(ge=1, le=9)] = 3
    """How many,
    in all."""
    share: Annotated[float, Field(gt=0)] | None = None
    kind: Literal["a", "b"] = "a"
    parts: list[Part] = []
    named: dict[str, Part] = {}


class Point(BaseModel):
    about: Citation
    others: list[Citation]
    sure: bool
    """Whether it is."""


class Answer(BaseModel):
    points: list[Point]
    summary: str


def test_options_are_told_with_their_bounds_and_docs() -> None:
    """In words; each default as JSON."""
    agent = replace(SLOW, options=Options)

    assert describe(agent).options == (
        Option(name="count", form="integer, at least 1, at most 9", default="3", about="How many, in all."),
        Option(name="share", form="number, over 0 or null", default="null"),
        Option(name="kind", form="one of a, b", default='"a"'),
        Option(name="parts", form="list of object with first, second", default="[]"),
        Option(name="named", form="object by name, each object with first, second", default="{}"),
    )


def test_answer_is_told_field_by_field() -> None:
    """With what of it is a citation."""
    judgement = Judgement(prompt="quality-gate", response=Answer)
    agent = replace(SLOW, judgement=judgement)

    described = describe(agent)

    assert described.answer == (
        Option(name="points[].about", form="text", cites=True),
        Option(name="points[].others[]", form="text", cites=True),
        Option(name="points[].sure", form="true or false", about="Whether it is."),
        Option(name="summary", form="text"),
    )
    assert described.prompt
    assert len(described.prompt.digest) == 64


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (None, ""),
        (Limit(max=0), "at most 0, hard"),
        (Limit(min=2.5, max=4, severity="soft"), "at most 4 and at least 2.5, soft"),
    ],
)
def test_limits_are_told_in_words(limit: Limit | None, told: str) -> None:
    """As the gate takes them."""
    assert limit_in_words(limit) == told


@pytest.mark.parametrize("agent", [*built_in()], ids=lambda agent: agent.id)
def test_example_is_an_input(agent: Agent) -> None:
    """Of each agent of the fleet: a target and ids."""
    described = describe(agent)

    assert RunInput.model_validate({"target": described.example["target"]}).target
    assert described.example["agents"][-1] == agent.id
    assert agent.id in described.through_temporal
