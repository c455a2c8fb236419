"""The learner's own code on rewards that were measured on real packages, see `measure_rewards.py`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest

from qefleet.contracts.learning import Strategy
from qefleet.learning.offer import offered
from qefleet.learning.simulation import Interval, MeasuredSegment, interval, play, segments_of

_TABLE = Path(__file__).parents[2] / "soak" / "learning_rewards.json"
_SEEDS = 20


def _measured(*, model: bool) -> list[MeasuredSegment]:
    rows = json.loads(_TABLE.read_text("utf-8"))["segments"].values()
    names = [strategy.value for strategy in offered(uses_model=model, recalls=False, pynguin=True)]
    recalled = [Strategy.RECALLED.value] if model else []
    return segments_of(list(rows), names, model="local" if model else "none", at_times=recalled)


@pytest.fixture(scope="module")
def segments() -> list[MeasuredSegment]:
    return _measured(model=False)


def _last_fifty(segments: list[MeasuredSegment], player: str) -> list[float]:
    return [mean(play(segments, player, seed=seed, episodes=100)[-50:]) for seed in range(_SEEDS)]


@pytest.mark.parametrize("strategy", list(Strategy), ids=str)
def test_each_strategy_was_measured_on_twelve_packages(strategy: Strategy) -> None:
    """A package that had nothing to give is not counted."""
    rows = json.loads(_TABLE.read_text("utf-8"))["segments"].values()

    assert len({row["package"] for row in rows if strategy.value in row["gains"]}) >= 12


@pytest.mark.parametrize(
    ("model", "other"),
    [
        (False, Strategy.TOOLS.value),
        (False, "random"),
        (True, Strategy.DIRECT.value),
        (True, "random"),
    ],
)
def test_learning_gains_a_fifth_over_the_fixed_default_and_over_chance(*, model: bool, other: str) -> None:
    """By the whole 95 % interval of the difference, paired by seed; the last 50 of 100 episodes, 20 seeds."""
    segments = _measured(model=model)
    learned, without = _last_fifty(segments, "learned"), _last_fifty(segments, other)
    gain = interval([a - 1.2 * b for a, b in zip(learned, without, strict=True)])

    assert gain.low > 0


def test_nobody_does_better_than_who_knows_all(segments: list[MeasuredSegment]) -> None:
    """A learner that did would be counted wrongly."""
    learned, best = _last_fifty(segments, "learned"), _last_fifty(segments, "best")

    assert all(a <= b + 1e-12 for a, b in zip(learned, best, strict=True))


def test_where_all_ways_are_equal_nothing_is_gained() -> None:
    """The experiment can fail: a table without differences shows none."""
    flat = [MeasuredSegment(f"p{n}", "s", {"tools": 0.1, "doctest": 0.1}) for n in range(12)]
    learned, fixed = _last_fifty(flat, "learned"), _last_fifty(flat, "tools")

    assert interval([a - b for a, b in zip(learned, fixed, strict=True)]) == Interval(0.0, 0.0, 0.0)
