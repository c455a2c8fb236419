"""Which strategies there are to choose from, the one that is taken without learning first."""

from __future__ import annotations

from qefleet.contracts.learning import Strategy

_WITH_MODEL = (Strategy.DIRECT, Strategy.RECALLED, Strategy.PROPERTIES, Strategy.TOOLS, Strategy.SEARCH)
_WITHOUT_MODEL = (Strategy.TOOLS, Strategy.DOCTEST, Strategy.GHOSTWRITER, Strategy.SEARCH)


def offered(*, uses_model: bool, recalls: bool) -> tuple[Strategy, ...]:
    """What a choice is made from; of equal values the first is taken.

    Args:
        uses_model: The run has a model: without one only tools propose.
        recalls: There is something to recall for the segment.
    """
    strategies = _WITH_MODEL if uses_model else _WITHOUT_MODEL
    return tuple(s for s in strategies if recalls or s is not Strategy.RECALLED)
