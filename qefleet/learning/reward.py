"""What a strategy is rewarded with: a weighted sum of what was measured, between -0.45 and 0.7.

The weights are those of the former fleet (coverage 0.30, quality 0.25, time 0.20, pattern 0.15, cost 0.10):
quality is what the kept tests do to mutants, and the weight of a pattern goes to the share of proposals that
were kept, which is what a pattern is made of. Flaky proposals cost as much as kept ones gain.

Time is counted in processes and tokens, not in seconds: how long they take tells how busy the machine is, and
a step that is done again after a crash has to be rewarded the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from qefleet.contracts.learning import Gains, Strategy

PROCESS_S = 1.0
"""What a sandboxed run counts for."""
PYNGUIN_PROCESSES = 10
"""What Pynguin's search counts for, as long as it takes: its iterations are always as many."""
TOKENS_PER_S = 30.0
"""Output tokens that count for a second."""
FULL_TIME_S = 60.0
"""From here on an item's time weighs in full."""
FULL_COST_USD = 0.05
"""From here on an item's cost weighs in full."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What each share is worth; gains add, the rest is taken off."""

    coverage: float = 0.30
    """Lines and branches gained, of those of the segment that were missing."""
    mutants: float = 0.25
    """Mutants killed, of those that kept tests met."""
    kept: float = 0.15
    """Tests kept, of those proposed."""
    time: float = 0.20
    cost: float = 0.10
    flaky: float = 0.15
    """Flaky tests, of those proposed."""

    @property
    def best(self) -> float:
        """The highest reward there is."""
        return self.coverage + self.mutants + self.kept


WEIGHTS = Weights()


def effort(strategy: Strategy) -> Gains:
    """What coming by a proposal takes, where that is more than a call of a tool."""
    return Gains(processes=PYNGUIN_PROCESSES if strategy is Strategy.PYNGUIN else 0)


def shares(gains: Gains) -> dict[str, float]:
    """Each part of a reward before it is weighted, from 0 to 1."""
    seconds = gains.processes * PROCESS_S + gains.output_tokens / TOKENS_PER_S
    return {
        "coverage": _share(gains.gained, gains.missing),
        "mutants": _share(gains.mutants_killed, gains.mutants_tried),
        "kept": _share(gains.kept, gains.proposed),
        "time": _share(seconds, FULL_TIME_S),
        "cost": _share(gains.cost_usd, FULL_COST_USD),
        "flaky": _share(gains.flaky, gains.proposed),
    }


def reward(gains: Gains, weights: Weights = WEIGHTS) -> float:
    """The reward for what was gained and spent on one item."""
    part = shares(gains)
    gained = sum(getattr(weights, name) * part[name] for name in ("coverage", "mutants", "kept"))
    spent = sum(getattr(weights, name) * part[name] for name in ("time", "cost", "flaky"))
    return gained - spent


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 0.0
