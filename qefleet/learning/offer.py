"""What there is to choose from in each decision, what is done without learning first, and in which state.

Each state ends with the model's kind: what one model's tests are worth tells nothing of another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qefleet.contracts.learning import Features, Order, Strategy, Tier
from qefleet.learning.values import CONSTANTS, Constants

AGAIN, STOP = "again", "stop"
_SEARCHES = (Strategy.SEARCH, Strategy.PYNGUIN)
_WITH_MODEL = (Strategy.DIRECT, Strategy.RECALLED, Strategy.PROPERTIES, Strategy.TOOLS, *_SEARCHES)
_WITHOUT_MODEL = (Strategy.TOOLS, Strategy.DOCTEST, Strategy.GHOSTWRITER, *_SEARCHES)
DEPTH_CONSTANTS = replace(CONSTANTS, initial=0.1)
"""A round that mends something seldom gains more than that."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A decision that is to be made."""

    decision: str
    """Its name in the rows of an item."""
    state: str
    actions: Sequence[str]
    """Of equal values the first is taken."""
    constants: Constants = CONSTANTS


def offered(*, uses_model: bool, recalls: bool, pynguin: bool) -> tuple[Strategy, ...]:
    """Ways to come by a test.

    Args:
        uses_model: The run has a model: without one only tools propose.
        recalls: There is something to recall for the segment.
        pynguin: Pynguin is there for the target.
    """
    strategies = _WITH_MODEL if uses_model else _WITHOUT_MODEL
    needs = {Strategy.RECALLED: recalls, Strategy.PYNGUIN: pynguin}
    return tuple(strategy for strategy in strategies if needs.get(strategy, True))


def offer_strategy(features: Features, *, recalls: bool, pynguin: bool) -> Offer:
    """How to come by a test for an item; see `offered`."""
    actions = offered(uses_model=features.model != "none", recalls=recalls, pynguin=pynguin)
    return Offer(decision="strategy", state=features.key, actions=actions)


def offer_tier(features: Features, tiers: Sequence[Tier]) -> Offer:
    """Whose model to ask for an item."""
    return Offer(decision="tier", state=features.key, actions=[f"tier:{tier}" for tier in tiers])


def offer_depth(features: Features, *, number: int, kept: int) -> Offer:
    """Whether to go on with an item, which is worth what the next round gains, or to stop, which is worth 0.

    Args:
        features: Of the item.
        number: Of the round that would come next.
        kept: Tests that were kept in the rounds before.
    """
    return Offer(
        decision=f"depth/{number}",
        state=f"round {number}/{'kept' if kept else 'none'}/{features.key}",
        actions=(AGAIN, STOP),
        constants=DEPTH_CONSTANTS,
    )


def offer_order(model: str, *, issues: bool) -> Offer:
    """What a step is to work on first.

    Args:
        model: Its kind, as in `Features`.
        issues: Agents before it have found some: else there is no risk to go by.
    """
    actions = (Order.RISK, Order.GAIN, Order.SHORT) if issues else (Order.GAIN, Order.SHORT)
    return Offer(decision="order", state=f"{'issues' if issues else 'no-issues'}/{model}", actions=actions)
