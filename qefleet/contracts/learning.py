"""What is chosen where several ways exist: the state it is chosen in, what it gained, and why.

Four things are: in which order a step works, the strategy for each item, the tier of models that is asked,
and after a round whether another one is worth it. Names of actions are durable: they stand in rows.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from qefleet.contracts.base import Model

Tier = Literal["simple", "moderate", "complex", "critical"]
"""How demanding a question is; a model is configured for each, cheap ones for what is simple."""


class Strategy(StrEnum):
    """Ways to come by a test; the names stand in `--policy`, too."""

    DOCTEST = "doctest"
    """The examples in the docstring, as asserting tests. No model."""
    GHOSTWRITER = "ghostwriter"
    """The forms of Hypothesis' ghostwriter. No model."""
    TOOLS = "tools"
    """Both of them: what is done without a model where nothing is learned."""
    SEARCH = "search"
    """Calls that a search finds, with what they give now as what is expected. No model."""
    PYNGUIN = "pynguin"
    """Tests that Pynguin's search finds, where it is installed. No model."""
    DIRECT = "direct"
    """A model is shown the source: what is done with a model where nothing is learned."""
    RECALLED = "recalled"
    """A model is shown the source and tests that were kept for similar code of the same project."""
    PROPERTIES = "properties"
    """A model is asked for properties that Hypothesis tries."""

    @property
    def uses_model(self) -> bool:
        """Whether a model is asked."""
        return self in {Strategy.DIRECT, Strategy.RECALLED, Strategy.PROPERTIES}


class Order(StrEnum):
    """What a step works on first."""

    RISK = "order:risk"
    """Where agents before it have found issues, then as `gain`: what is done where nothing is learned."""
    GAIN = "order:gain"
    """What promises most for the least effort."""
    SHORT = "order:short"
    """The shortest functions."""


class Policy(StrEnum):
    """How strategies are chosen: not at all, by what was learnt, or one of them everywhere."""

    OFF = "off"
    LEARNED = "learned"
    DOCTEST = "doctest"
    GHOSTWRITER = "ghostwriter"
    TOOLS = "tools"
    SEARCH = "search"
    PYNGUIN = "pynguin"
    DIRECT = "direct"
    RECALLED = "recalled"
    PROPERTIES = "properties"

    @property
    def strategy(self) -> Strategy | None:
        """The one that is followed everywhere; None where there is none."""
        return None if self in {Policy.OFF, Policy.LEARNED} else Strategy(self.value)


class Features(Model):
    """The state: what is known of a segment before anything is proposed for it."""

    kind: Literal["function", "method"]
    example: bool
    """Its docstring, or its class', has an example with `>>>`."""
    typed: bool
    """All of its parameters are annotated, and there are some."""
    size: Literal["short", "long"]
    """Long: more than 20 lines."""
    missing: Literal["few", "many"]
    """Many: more than five lines and branches that no test reaches."""
    model: Literal["none", "local", "large"]

    @property
    def key(self) -> str:
        """As it stands in the table of values, readable."""
        parts = (
            self.kind,
            "example" if self.example else "no-example",
            "typed" if self.typed else "untyped",
            self.size,
            self.missing,
            self.model,
        )
        return "/".join(parts)


class Gains(Model):
    """What one item's work gave and took, counted; none of it is a model's opinion."""

    missing: int = 0
    """Lines and branches of the segment that nothing reached before."""
    gained: int = 0
    """Lines and branches, of the whole project, that kept tests reached first."""
    proposed: int = 0
    kept: int = 0
    flaky: int = 0
    """Tests that passed at first and failed in a later one of five runs."""
    mutants_killed: int = 0
    mutants_tried: int = 0
    """By kept tests."""
    processes: int = 0
    """Sandboxed runs that were started: of tests and of mutants."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    duration_s: float = 0.0
    """For people: rewards do not use it, since it tells how busy the machine was."""

    def __add__(self, other: Gains) -> Gains:
        mine, theirs = self.model_dump(), other.model_dump()
        summed = {name: mine[name] + theirs[name] for name in mine}
        return Gains.model_validate(summed | {"missing": max(self.missing, other.missing)})


class Alternative(Model):
    """What was known of an action when a choice was made."""

    action: str
    value: float
    visits: Annotated[int, Field(ge=0)]
    """Rewards that the value is made of."""


class Choice(Model):
    """How one item of a step is worked on."""

    strategy: Strategy
    uses_model: bool
    tier: Tier | None = None
    """Whose model is asked; null: the agent's own."""


class Depth(Model):
    """Whether another round is worth it."""

    goes_on: bool


class Rewarded(Model):
    """What an item's strategy was rewarded with."""

    reward: float
