"""Statistics of counts by time: planted changes and bursts are found, and noise is left alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from qefleet.tools.production.series import LEVEL, Series, find_tail

_TESTS = 20_000
"""As many as a log with fifty templates gives."""


def _poisson(chance: random.Random, mean: float) -> int:
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def _noise(mean: float, seed: int, buckets: int = 200) -> list[int]:
    chance = random.Random(seed)
    return [_poisson(chance, mean) for _ in range(buckets)]


@pytest.mark.parametrize("mean", [0.05, 0.5, 3.0, 10.0, 40.0])
def test_noise_has_nothing_in_it(mean: float) -> None:
    """One test in a hundred may find something in noise; of 60 fixed series at most two do."""
    series = [Series(_noise(mean, seed), 2 * 200) for seed in range(60)]

    assert sum(bool(it.bursts or it.changes) for it in series) <= 2


@pytest.mark.parametrize(("before", "after"), [(20, 35), (20, 8), (3, 12), (0, 3)])
def test_a_changed_rate_is_found_where_it_was_planted(before: int, after: int) -> None:
    counts = [*_noise(before, 1, 120), *_noise(after, 2, 80)]
    (change,) = Series(counts, _TESTS).changes

    assert abs(change.bucket - 120) <= 1
    assert change.before == pytest.approx(before, rel=0.15)
    assert change.after == pytest.approx(after, rel=0.15)
    assert change.p * _TESTS < LEVEL * 200
    assert Series(counts, _TESTS).bursts == []


@pytest.mark.parametrize(("mean", "added"), [(20, 40), (0.05, 9)])
def test_a_burst_is_found_where_it_was_planted(mean: float, added: int) -> None:
    """Among many events, and among few; it is no changed rate."""
    counts = _noise(mean, 3)
    counts[70] += added
    counts[71] += added
    series = Series(counts, _TESTS)

    (burst,) = series.bursts
    assert (burst.first, burst.last, burst.observed) == (70, 71, counts[70] + counts[71])
    assert burst.p * _TESTS < LEVEL
    assert series.changes == []


def test_a_stretch_of_some_buckets_is_a_burst_and_no_new_rate() -> None:
    """Each of its buckets by itself would not stand out."""
    counts = _noise(0.05, 3)
    counts[100:110] = [4] * 10
    series = Series(counts, _TESTS)

    (burst,) = series.bursts
    assert (burst.first, burst.last, burst.observed) == (100, 109, 40)
    assert series.changes == []


def test_silence_is_a_burst_too() -> None:
    counts = _noise(30, 4)
    counts[150] = 0

    assert [(it.first, it.observed) for it in Series(counts, _TESTS).bursts] == [(150, 0)]


def test_a_series_that_varies_by_itself_is_judged_by_its_own_spread() -> None:
    """With six times Poisson's variance, at most two of 40 fixed series alarm; by Poisson's tail most."""
    chance = random.Random(5)
    wild = [[_poisson(chance, 20 * chance.gammavariate(4, 0.25)) for _ in range(200)] for _ in range(40)]

    assert sum(bool((it := Series(counts, 400)).bursts or it.changes) for counts in wild) <= 2
    alarmed = [any(find_tail(c, 20, 1.001) * 400 < LEVEL for c in counts) for counts in wild]
    assert sum(alarmed) > 30


def _sum(mean: float, counts: range) -> float:
    return sum(math.exp(-mean) * mean**count / math.factorial(count) for count in counts)


@pytest.mark.parametrize("at", [(40, lambda: _sum(20, range(40, 140))), (5, lambda: _sum(20, range(6)))])
def test_the_tail_without_spread_is_poissons(at: tuple[int, Callable[[], float]]) -> None:
    """Against the sum of the distribution itself."""
    count, truth = at

    assert find_tail(count, 20, 1 + 1e-9) == pytest.approx(truth(), rel=1e-4)
