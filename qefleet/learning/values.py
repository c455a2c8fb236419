"""Tabular learning: values of actions in states, how they are chosen by, and how a reward moves them.

Pure: chance comes from a seed, so that a choice that is made again is the same choice.
The constants are the former fleet's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qefleet.learning.reward import WEIGHTS

Reason = Literal["explored", "untried", "best"]


@dataclass(frozen=True, kw_only=True)
class Constants:
    """How fast is learnt, and how much is left to chance."""

    alpha: float = 0.1
    """How far a reward moves a value."""
    gamma: float = 0.95
    """What the next state's value counts for."""
    epsilon: float = 0.2
    """Share of choices that are left to chance at first."""
    decay: float = 0.995
    """What that share is multiplied by with each reward."""
    epsilon_min: float = 0.01
    initial: float = WEIGHTS.best
    """What an action counts for that was never tried anywhere: the best, so that each is tried sometimes."""
    prior: float = 2.0
    """Rewards that `initial` counts for in an action's mean over all states, and that mean in each state."""

    def exploring(self, rewards: int) -> float:
        """The share left to chance once so many rewards were given."""
        return max(self.epsilon_min, self.epsilon * self.decay**rewards)


CONSTANTS = Constants()


@dataclass(frozen=True)
class Estimate:
    """What is known of an action in a state."""

    value: float
    visits: int
    """Rewards that it is made of."""


@dataclass(frozen=True)
class Chosen:
    """An action, and why."""

    action: str
    reason: Reason


def unknown(constants: Constants = CONSTANTS) -> Estimate:
    """Of an action that was never tried."""
    return Estimate(constants.initial, 0)


def expected(
    table: Mapping[tuple[str, str], Estimate],
    state: str,
    actions: Sequence[str],
    constants: Constants = CONSTANTS,
) -> dict[str, Estimate]:
    """What each action promises in a state: its value there, drawn towards its mean over all states.

    States are many and rewards few: without it each state would have to learn from nothing. The more rewards
    a value is made of, the more it counts by itself. The mean is drawn towards the initial value in turn:
    what was hardly tried anywhere is promising.

    Args:
        table: Values by state and action.
        state: In which an action is chosen.
        actions: That are offered, in their order.
        constants: The weight of the mean, and what was never tried.
    """
    found: dict[str, Estimate] = {}
    for action in actions:
        everywhere = [table[key] for key in sorted(table) if key[1] == action]
        rewards = sum(each.visits for each in everywhere)
        total = sum(each.value * each.visits for each in everywhere)
        overall = (total + constants.initial * constants.prior) / (rewards + constants.prior)
        own = table.get((state, action), Estimate(0.0, 0))
        value = (own.value * own.visits + overall * constants.prior) / (own.visits + constants.prior)
        found[action] = Estimate(value, own.visits)
    return found


def choose(estimates: Mapping[str, Estimate], *, epsilon: float, seed: int) -> Chosen:
    """Take the action of the highest value, or any of them in `epsilon` of all cases.

    Args:
        estimates: Of each action that is offered; of equals the first one is taken.
        epsilon: Share of chance.
        seed: The same seed and estimates give the same choice.
    """
    chance = random.Random(seed)  # noqa: S311 - to explore, not a secret
    if chance.random() < epsilon:
        return Chosen(chance.choice(list(estimates)), "explored")
    best = max(estimates, key=lambda action: estimates[action].value)
    return Chosen(best, "best" if estimates[best].visits else "untried")


def q_update(
    estimate: Estimate, reward: float, *, next_best: float = 0.0, constants: Constants = CONSTANTS
) -> Estimate:
    """Q-learning (Watkins 1989): `Q + alpha * (reward + gamma * max Q' - Q)`.

    Args:
        estimate: Of the action that was taken, in the state that it was taken in.
        reward: For it.
        next_best: Highest value in the state that it led to; 0 where the episode has ended.
        constants: Alpha and gamma.
    """
    target = reward + constants.gamma * next_best
    moved = estimate.value + constants.alpha * (target - estimate.value)
    return Estimate(moved, estimate.visits + 1)


def bandit_update(estimate: Estimate, reward: float, constants: Constants = CONSTANTS) -> Estimate:
    """For episodes of one step: the mean of the first rewards, then as Q-learning with nothing to come.

    The step is `max(alpha, 1 / visits)`: the first reward replaces the initial value, and old rewards fade
    once there are more than `1 / alpha` of them, since projects and models change.
    """
    visits = estimate.visits + 1
    step = max(constants.alpha, 1 / visits)
    return Estimate(estimate.value + step * (reward - estimate.value), visits)


def seed_of(*parts: str | int) -> int:
    """A seed from names, the same in every process."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")
