"""What a test's failing depends on: itself, the tests before it, or the hash seed; told by further runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qefleet.contracts.base import Model
from qefleet.contracts.flaky import Kind, TestCounts
from qefleet.tools.ground import Ground
from qefleet.tools.running.junit import read_cases
from qefleet.tools.running.repeat import OneRun
from qefleet.tools.running.suite import files_of, run_suite

_ALONE = 5
"""Runs of a test alone. One that fails half of the time passes or fails in all of them once in 16 times:
therefore every cause but `intermittent` is tried as often again before it is told."""


class Experiment(Model):
    """One run of a few tests, in this order, in a fresh process."""

    tests: list[str]
    hash_seed: int
    passed: bool | None
    """How the last of them came out; null where it didn't run."""
    duration_s: float


class OutOfRunsError(Exception):
    """No run or no time is left; what was found out until then stands."""


@dataclass(frozen=True)
class Cause:
    """Why a test fails some of the time."""

    kind: Kind
    explanation: str
    partners: tuple[str, ...] = ()
    needs_partners: bool = False


@dataclass
class Laboratory:
    """Runs a few tests at a time, as often as it may.

    Args:
        ground: The project's workspace.
        runs: How many experiments are left.
        until: On the monotonic clock: when to begin none any more.
        timeout_s: Wall time after which one is stopped.
        at_once: Side by side, where the same is tried again.
        files: Test files to lay over the project, by relative path.
    """

    ground: Ground
    runs: int
    until: float
    timeout_s: float
    at_once: int = 1
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    experiments: list[Experiment] = field(default_factory=list[Experiment])
    partners: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """Tests that changed how others come out: the first to be suspected next time."""
    version: str = "unknown"
    """pytest's."""

    async def passes(self, tests: Sequence[str], *, hash_seed: int) -> bool | None:
        """How the last of these tests comes out after the others; None where it didn't run.

        Raises:
            OutOfRunsError: No run or no time is left.
        """
        if self.runs <= 0 or time.monotonic() >= self.until:
            raise OutOfRunsError
        self.runs -= 1
        suite = await run_suite(
            self.ground,
            coverage=False,
            only=files_of(tests, self.ground.project),
            order=tests,
            hash_seed=hash_seed,
            lean=True,
            files=self.files,
            timeout_s=self.timeout_s,
        )
        self.version = suite.tools[0].version
        kinds = {case.node_id: case.kind for case in read_cases(suite.artifact("junit.xml")) or []}
        kind = kinds.get(tests[-1], "skipped")
        passed = None if kind == "skipped" else kind == "passed"
        self.experiments.append(
            Experiment(
                tests=list(tests), hash_seed=hash_seed, passed=passed, duration_s=suite.details.duration_s
            )
        )
        return passed

    async def always(self, tests: Sequence[str], *, hash_seed: int, times: int = _ALONE) -> bool | None:
        """Whether the last of these tests passes each time (True), fails each time (False), or neither."""
        first = await self.passes(tests, hash_seed=hash_seed)
        for start in range(1, times, self.at_once):
            batch = range(start, min(times, start + self.at_once))
            outcomes = await asyncio.gather(*(self.passes(tests, hash_seed=hash_seed) for _ in batch))
            if any(outcome is not first for outcome in outcomes):
                return None
        return first

    def alone(self, node_id: str) -> tuple[int, int]:
        """How often a test passed and failed alone."""
        outcomes = [run.passed for run in self.experiments if run.tests == [node_id]]
        return outcomes.count(True), outcomes.count(False)


async def find_cause(laboratory: Laboratory, test: TestCounts, runs: Sequence[OneRun]) -> Cause:
    """Find out what a test that failed depends on.

    Args:
        laboratory: Where to run it again.
        test: As it came out.
        runs: Of the whole suite; in at least one of them it failed.
    """
    failing = next(run for run in runs if run.passed(test.node_id) is False)
    passing = next((run for run in runs if run.passed(test.node_id)), None)
    try:
        alone = await laboratory.always([test.node_id], hash_seed=failing.hash_seed)
        if alone is None:
            return _intermittent(laboratory, test)
        if alone:
            return await _by_order(laboratory, test, failing, needs=False)
        if passing is None:
            return Cause(Kind.BROKEN, "it failed in every run, and alone too")
        return await _by_seed_or_order(laboratory, test, failing, passing)
    except OutOfRunsError:
        return Cause(
            Kind.UNEXPLAINED, "no run or no time was left to find out: raise max_experiments or max_minutes"
        )


async def _by_seed_or_order(
    laboratory: Laboratory, test: TestCounts, failing: OneRun, passing: OneRun
) -> Cause:
    """Of a test that fails alone, and passed in some run of the suite."""
    here, there = failing.hash_seed, passing.hash_seed
    other = await laboratory.always([test.node_id], hash_seed=there) if here != there else False
    if other is None:
        return _intermittent(laboratory, test)
    if not other:
        return await _by_order(laboratory, test, passing, needs=True)
    again = [await laboratory.always([test.node_id], hash_seed=seed) for seed in (here, there)]
    if again != [False, True]:
        return _intermittent(laboratory, test)
    return Cause(
        Kind.HASH_SEED,
        f"alone it fails each time with PYTHONHASHSEED={here} and passes each time with {there}",
    )


async def _by_order(laboratory: Laboratory, test: TestCounts, run: OneRun, *, needs: bool) -> Cause:
    """Of a test that comes out differently alone than after those that ran before it."""
    seed = run.hash_seed

    async def differs(before: Sequence[str]) -> bool:
        return await laboratory.passes([*before, test.node_id], hash_seed=seed) is needs

    before = run.before(test.node_id)
    usual = [[*partners] for partners in laboratory.partners if {*partners} <= {*before}]
    found = await _first(usual, differs)
    if found is None:
        if not before or not await differs(before):
            return _not_again(laboratory, test)
        found = await _smallest(before, differs)
    suspects = tuple(found)
    for tests, expected in (([*suspects, test.node_id], needs), ([test.node_id], not needs)):
        if await laboratory.always(tests, hash_seed=seed) is not expected:
            return _intermittent(laboratory, test)
    if suspects not in laboratory.partners:
        laboratory.partners.append(suspects)
    how = "it passes only after" if needs else "it passes alone and fails after"
    return Cause(Kind.ORDER, f"{how} {' and '.join(suspects)}", suspects, needs)


async def _smallest(tests: Sequence[str], differs: Callable[[Sequence[str]], Awaitable[bool]]) -> list[str]:
    """A part of the tests that still makes the difference, and none of whose parts that were tried does.

    Delta debugging: A. Zeller, R. Hildebrandt, IEEE Trans. Softw. Eng. 28 (2002), 183-200. For one culprit
    among n tests it takes at most 2 log2(n) runs.
    """
    left, parts = list(tests), 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        chunks = [left[start : start + size] for start in range(0, len(left), size)]
        others = [[test for test in left if test not in chunk] for chunk in chunks] if parts > 2 else []  # noqa: PLR2004 - of two halves each is the other's rest
        if smaller := await _first(chunks[::-1], differs):  # the culprit is more often near
            left, parts = smaller, 2
        elif smaller := await _first(others, differs):
            left, parts = smaller, max(parts - 1, 2)
        elif parts >= len(left):
            break
        else:
            parts = min(len(left), 2 * parts)
    return left


async def _first(
    choices: Sequence[list[str]], differs: Callable[[Sequence[str]], Awaitable[bool]]
) -> list[str] | None:
    for choice in choices:
        if await differs(choice):
            return choice
    return None


def _intermittent(laboratory: Laboratory, test: TestCounts) -> Cause:
    passed, failed = laboratory.alone(test.node_id)
    return Cause(
        Kind.INTERMITTENT,
        f"alone, with one and the same hash seed, it comes out differently: it failed {failed} of "
        f"{passed + failed} times"
        if passed and failed
        else "the same tests in the same order, with the same hash seed, come out differently",
    )


def _not_again(laboratory: Laboratory, test: TestCounts) -> Cause:
    passed, failed = laboratory.alone(test.node_id)
    if not test.passed:
        return Cause(
            Kind.UNEXPLAINED,
            f"it failed in every run of the suite, passed {passed} of {passed + failed} times alone, and "
            "passes after the tests that ran before it: what other test files do on import may be the cause",
        )
    return Cause(
        Kind.INTERMITTENT,
        f"it passed {passed} of {passed + failed} times alone, and in the order in which it had failed it "
        "passes too: it fails by itself, now and then",
    )
