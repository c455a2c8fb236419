"""How much can be said about a test's failure rate from a number of runs."""

from __future__ import annotations

import math

_Z = 1.959963984540054
"""Of the normal distribution, for 95 % between both ends."""


def wilson(failed: int, runs: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share: E. B. Wilson, JASA 22 (1927), 209-212.

    Unlike the textbook interval it says something for 0 of n, and never leaves 0 to 1.

    Args:
        failed: Of them.
        runs: How many, at least one.
    """
    share, square = failed / runs, _Z * _Z
    middle = (share + square / (2 * runs)) / (1 + square / runs)
    half = _Z / (1 + square / runs) * math.sqrt(share * (1 - share) / runs + square / (4 * runs * runs))
    return max(0.0, middle - half) if failed else 0.0, min(1.0, middle + half) if failed < runs else 1.0


def caught(rate: float, runs: int) -> float:
    """Probability that a test with this failure rate fails in at least one of so many runs."""
    return 1 - (1 - rate) ** runs


def runs_to_catch(rate: float, probability: float = 0.95) -> int:
    """Runs after which a test with this failure rate has failed with this probability.

    Args:
        rate: Above 0.
        probability: Below 1.
    """
    return 1 if rate >= 1 else math.ceil(math.log(1 - probability) / math.log(1 - rate))


def unseen_rate(runs: int, probability: float = 0.95) -> float:
    """The highest failure rate that goes with no failure in so many runs, at this confidence.

    One-sided and exact (Clopper-Pearson's upper bound for 0 of n): 1 - (1 - confidence)^(1/n).
    """
    return 1 - (1 - probability) ** (1 / runs)
