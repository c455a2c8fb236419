"""Rates that changed, and buckets that stand out: statistics of counts by time, on the standard library.

Counts are taken for Poisson, or negative binomial where a series varies more than that. All tests of a run
share one level of significance, by Bonferroni: mere noise gives a finding once in a hundred logs.

- An anomaly is a bucket that the median of the 21 around it (its own among them: a step stays one) doesn't
  explain: the tail on its side, doubled. Where the median is small, the tail of the binomial distribution,
  given the events of the 61 around it.
- A change point is found by binary segmentation; two of them up to ten buckets apart are an anomaly. The
  statistic is the likelihood ratio of two rates against one; exp(-ratio) is Chernoff's bound on the tail of
  the left part's count given both parts', so the p-value errs on the safe side at any count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from statistics import fmean, median

LEVEL = 0.01
"""Chance that a run with nothing in it finds anything, at most."""
LEAST_BUCKETS = 20
_HALF = 10
_HALF_WIDE = 30
_SMALL = 5.0
"""Medians below it say little of the rate."""
_FEWEST = 5
"""Events in a bucket, without which there is no burst."""
_CHI2_MEDIAN = 0.4549
"""Median of the squared standard normal distribution."""
_BURSTS = 0.02
"""Share of buckets that may stand out without making the others seem to vary more."""
_OF_MEDIAN = 1 + math.pi / 2 / (2 * _HALF + 1)
"""Variance of a count less the estimated median, by that of the count."""
_MOST_STRETCHES = 20
_SHORTEST = 5
"""Buckets between two change points."""


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Buckets that stand out, one after the other."""

    first: int
    last: int
    observed: int
    expected: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """A new rate from a bucket on."""

    bucket: int
    before: float
    after: float
    p: float


@dataclass(frozen=True)
class Series:
    """Counts by bucket, with what is typical around each.

    Args:
        counts: By bucket, all of the same width.
        tests: How many are made in a run, those of other series among them.
    """

    counts: Sequence[int]
    tests: int

    @cached_property
    def typical(self) -> list[float]:
        """Median of the buckets around each; at the ends of the nearest as many."""
        return [float(median(around)) for around in self._around(_HALF)]

    @cached_property
    def spread(self) -> float:
        """How much more than Poisson the counts vary around what is typical, at least 1.

        By the mean without the largest fiftieth, where bursts are, or the median, whichever is larger.
        """
        ratios = sorted(
            (count - typical) ** 2 / typical
            for count, typical in zip(self.counts, self.typical, strict=True)
            if typical >= _SMALL
        )
        if not ratios:
            return 1.0
        kept = ratios[: len(ratios) - math.ceil(len(ratios) * _BURSTS)]
        return max(1.0, median(ratios) / _CHI2_MEDIAN, fmean(kept) if kept else 1.0)

    @cached_property
    def _single(self) -> list[Burst]:
        """Buckets that stand out by themselves; those side by side are one burst."""
        found: list[Burst] = []
        for bucket, count in enumerate(self.counts):
            typical, p = self._standing_out(bucket)
            if p * self.tests >= LEVEL:
                continue
            before = found[-1] if found and found[-1].last == bucket - 1 else None
            if before and (before.observed > before.expected) == (count > typical):
                found[-1] = Burst(
                    first=before.first,
                    last=bucket,
                    observed=before.observed + count,
                    expected=before.expected + typical,
                    p=min(p, before.p),
                )
            else:
                found.append(Burst(first=bucket, last=bucket, observed=count, expected=typical, p=p))
        return found

    @cached_property
    def _level_and_stretches(self) -> tuple[list[int], list[Burst]]:
        """The counts without bursts, and the bursts between two changes that are close to each other."""
        level = list(self.counts)
        for burst in self._single:
            for bucket in range(burst.first, burst.last + 1):
                level[bucket] = round(self.typical[bucket])
        stretches: list[Burst] = []
        for _ in range(_MOST_STRETCHES):
            pairs = pairwise(self._cuts(level))
            short = next(((a, b) for a, b in pairs if b[0] - a[0] <= _HALF), None)
            if short is None:
                break
            (first, p), (end, other) = short
            usual = fmean([*level[max(0, first - _HALF) : first], *level[end : end + _HALF]])
            stretches.append(
                Burst(
                    first=first,
                    last=end - 1,
                    observed=sum(self.counts[first:end]),
                    expected=usual * (end - first),
                    p=min(p, other),
                )
            )
            level[first:end] = [round(usual)] * (end - first)
        return level, stretches

    @cached_property
    def bursts(self) -> list[Burst]:
        """Buckets that stand out, alone or several in a row."""
        _, stretches = self._level_and_stretches
        alone = [
            it
            for it in self._single
            if not any(it.first <= other.last and other.first <= it.last for other in stretches)
        ]
        return sorted([*alone, *stretches], key=lambda burst: burst.first)

    @cached_property
    def changes(self) -> list[Change]:
        """Rates that changed, after bursts have been put down to what is typical around them."""
        level, _ = self._level_and_stretches
        cuts = self._cuts(level)
        edges = [0, *(bucket for bucket, _ in cuts), len(level)]
        means = [fmean(level[first:end]) for first, end in pairwise(edges)]
        return [
            Change(bucket=bucket, before=means[n], after=means[n + 1], p=p)
            for n, (bucket, p) in enumerate(cuts)
        ]

    def _cuts(self, level: Sequence[int]) -> list[tuple[int, float]]:
        return sorted(_cuts([0, *accumulate(level)], 0, len(level), self.spread, self.tests))

    def _standing_out(self, bucket: int) -> tuple[float, float]:
        """What is expected of a bucket, and how likely it is to be as far from that as it is."""
        count, typical = self.counts[bucket], self.typical[bucket]
        if typical >= _SMALL:
            return typical, min(1.0, 2 * find_tail(count, typical, self.spread * _OF_MEDIAN))
        around = self._wide[bucket]
        return fmean(around), _binomial_tail(count, sum(around), len(around)) if count >= _FEWEST else 1.0

    @cached_property
    def _wide(self) -> list[Sequence[int]]:
        return list(self._around(_HALF_WIDE))

    def _around(self, half: int) -> Iterator[Sequence[int]]:
        last = max(0, len(self.counts) - 2 * half - 1)
        for bucket in range(len(self.counts)):
            start = min(max(0, bucket - half), last)
            yield self.counts[start : start + 2 * half + 1]


def all_tests(series: Mapping[str, Sequence[int]]) -> int:
    """How many tests there are in a run: one for each bucket, and one for each place between two."""
    return sum(2 * len(counts) for counts in series.values())


def _cuts(
    sums: Sequence[int], first: int, end: int, spread: float, tests: int
) -> Iterator[tuple[int, float]]:
    """Buckets from which on another rate holds, with their p-values: the best, then within each part."""
    splits = range(first + _SHORTEST, end - _SHORTEST + 1)
    if not splits:
        return
    ratio, cut = max((_ratio(sums, first, split, end), -split) for split in splits)
    p = min(1.0, 2 * math.exp(-ratio / spread))
    if p * tests >= LEVEL:
        return
    yield -cut, min(1.0, p * len(splits))
    yield from _cuts(sums, first, -cut, spread, tests)
    yield from _cuts(sums, -cut, end, spread, tests)


def _ratio(sums: Sequence[int], first: int, split: int, end: int) -> float:
    """Log of the likelihood of two rates by that of one."""
    left, right = sums[split] - sums[first], sums[end] - sums[split]
    mean = (left + right) / (end - first)

    def part(count: int, buckets: int) -> float:
        return count * math.log(count / (buckets * mean)) if count else 0.0

    return part(left, split - first) + part(right, end - split)


def find_tail(count: int, mean: float, spread: float) -> float:
    """P(X >= count) above the mean, P(X <= count) below it, of a negative binomial variable.

    Args:
        count: What was observed.
        mean: Of the variable.
        spread: Its variance by its mean, above 1; close to 1 it is Poisson.
    """
    size, share = mean / (spread - 1), 1 - 1 / spread
    term = math.exp(
        math.lgamma(count + size)
        - math.lgamma(size)
        - math.lgamma(count + 1)
        + count * math.log(share)
        - size * math.log(spread)
    )
    found, hits = 0.0, count
    while hits >= 0 and term > found * 1e-12:
        found += term
        if count > mean:
            term *= (hits + size) / (hits + 1) * share
            hits += 1
        else:
            term *= hits / ((hits - 1 + size) * share) if hits else 0.0
            hits -= 1
    return min(1.0, found)


def _binomial_tail(count: int, total: int, buckets: int) -> float:
    """P(X >= count) of `total` events falling into `buckets` alike."""
    share = 1 / buckets
    log_odds = math.log(share) - math.log1p(-share)
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * log_odds
        + total * math.log1p(-share)
    )
    term, found = math.exp(log_term), 0.0
    for hits in range(count, total + 1):
        found += term
        if term < found * 1e-12:
            break
        term *= (total - hits) / (hits + 1) * math.exp(log_odds)
    return min(1.0, found)
