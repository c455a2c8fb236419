"""The learner's own code on rewards that were measured before: what it would have chosen, and gained.

Pure and quick: an episode is a run on one package, its reward the mean over the package's segments.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from qefleet.contracts.learning import Features, Gains
from qefleet.learning.reward import reward
from qefleet.learning.values import (
    CONSTANTS,
    Constants,
    Estimate,
    bandit_update,
    choose,
    expected,
    seed_of,
    unknown,
)

Player = str
"""Who chooses: `learned`, `random`, `best` (who knows all rewards), or a strategy that is always followed."""

_T_95 = {5: 2.776, 10: 2.262, 20: 2.093, 30: 2.045, 50: 2.010}
"""Student's two-sided quantiles for so many seeds."""


@dataclass(frozen=True)
class MeasuredSegment:
    """A segment, and what each strategy was measured to gain on it."""

    package: str
    state: str
    rewards: Mapping[str, float]
    """By strategy, in the order in which they are offered."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def segments_of(
    rows: Sequence[Mapping[str, object]],
    strategies: Sequence[str],
    *,
    model: str,
    at_times: Sequence[str] = (),
) -> list[MeasuredSegment]:
    """The rows of a table of gains on which each of the strategies was measured.

    Args:
        rows: With `package`, `features` and `gains`.
        strategies: To choose from, the fixed default first.
        model: The feature that the table doesn't have.
        at_times: Strategies that are offered where they were measured, and not elsewhere.
    """
    found: list[MeasuredSegment] = []
    for row in rows:
        gains = row["gains"]
        features = row["features"]
        assert isinstance(gains, dict)
        assert isinstance(features, dict)
        if all(strategy in gains for strategy in strategies):
            state = Features.model_validate(features | {"model": model}).key
            offered = [*strategies, *(name for name in at_times if name in gains)]
            rewards = {name: reward(Gains.model_validate(gains[name])) for name in offered}
            found.append(MeasuredSegment(str(row["package"]), state, rewards))
    return found


def play(
    segments: Sequence[MeasuredSegment],
    player: Player,
    *,
    seed: int,
    episodes: int = 100,
    strange: bool = False,
    constants: Constants = CONSTANTS,
) -> list[float]:
    """Rewards of episodes, one a run on a package; the packages come in the same order for each player.

    Args:
        segments: With their rewards.
        player: Who chooses.
        seed: Of the packages' order and of all chance.
        episodes: How many.
        strange: The packages of the second half of the episodes are none of the first half's.
        constants: Of the learner.
    """
    order = random.Random(seed)  # noqa: S311 - an experiment, not a secret
    packages = sorted({segment.package for segment in segments})
    order.shuffle(packages)
    half = len(packages) // 2
    table: dict[tuple[str, str], Estimate] = {}
    given = 0
    curve: list[float] = []
    for episode in range(episodes):
        among = packages if not strange else packages[half:] if 2 * episode < episodes else packages[:half]
        package = order.choice(among)
        rewards: list[float] = []
        for number, segment in enumerate(s for s in segments if s.package == package):
            options = list(segment.rewards)
            draw = seed_of(seed, episode, number)
            if player == "learned":
                known = expected(table, segment.state, options, constants)
                action = choose(known, epsilon=constants.exploring(given), seed=draw).action
                cell = (segment.state, action)
                before = table.get(cell, unknown(constants))
                table[cell] = bandit_update(before, segment.rewards[action], constants)
                given += 1
            elif player == "random":
                action = random.Random(draw).choice(options)  # noqa: S311 - as above
            elif player == "best":
                action = max(options, key=lambda name: segment.rewards[name])
            else:
                action = player
            rewards.append(segment.rewards[action])
        curve.append(mean(rewards))
    return curve


def interval(values: Sequence[float]) -> Interval:
    """Mean over seeds, with Student's 95 % interval; for 5, 10, 20, 30 or 50 seeds."""
    middle = mean(values)
    half = _T_95[len(values)] * stdev(values) / sqrt(len(values))
    return Interval(middle, middle - half, middle + half)
