"""A suite run again and again, each time in a fresh process, another order and with another hash seed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from qefleet.contracts.execution import SuiteOutcome
from qefleet.contracts.flaky import TestCounts
from qefleet.tools.ground import Ground
from qefleet.tools.running.junit import Case, read_cases
from qefleet.tools.running.suite import SuiteRun, run_suite

_FAILED = frozenset({"failure", "error"})
_HOPELESS = 2
"""After so many runs without a report at the beginning, and no other, no more are made."""


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """One run of the suite."""

    order_seed: int | None
    """Null for the project's own order."""
    hash_seed: int
    suite: SuiteRun
    cases: dict[str, Case] = field(default_factory=dict[str, Case])
    """By node id, in the order in which they ran."""

    @property
    def usable(self) -> bool:
        """It came to its end and left a report that agrees with its exit code."""
        return self.suite.details.outcome in {SuiteOutcome.PASSED, SuiteOutcome.FAILED}

    def passed(self, node_id: str) -> bool | None:
        """How a test came out; None where it didn't run or was skipped."""
        kind = self.cases[node_id].kind if node_id in self.cases else "skipped"
        return None if kind == "skipped" else kind not in _FAILED

    def before(self, node_id: str) -> list[str]:
        """The tests that ran before this one."""
        ran = list(self.cases)
        return ran[: ran.index(node_id)]


async def repeat_suite(
    ground: Ground,
    *,
    runs: int,
    max_s: float,
    timeout_s: float,
    only: Sequence[str] = (),
    at_once: int = 1,
) -> list[OneRun]:
    """Run the suite several times: first in the project's own order, then shuffled.

    Args:
        ground: The project's workspace.
        runs: How many times, at most.
        max_s: No further run is begun where it might not end within this time.
        timeout_s: Wall time after which one run is stopped.
        only: Test files; all that the project collects without them.
        at_once: Runs side by side.

    Returns:
        The runs that were made, at least one.
    """
    started, done = time.monotonic(), list[OneRun]()
    longest = 0.0
    while len(done) < runs:
        if done and time.monotonic() - started + longest > max_s:
            break
        if len(done) >= _HOPELESS and not any(run.usable for run in done):
            break
        began = time.monotonic()
        batch = range(len(done), min(runs, len(done) + at_once))
        done += await asyncio.gather(*(_run(ground, number, only, timeout_s) for number in batch))
        longest = max(longest, time.monotonic() - began)
    return done


def count_tests(runs: Sequence[OneRun]) -> list[TestCounts]:
    """How each test came out over these runs, in the order of the node ids."""
    counts: dict[str, TestCounts] = {}
    for case in (case for run in runs for case in run.cases.values()):
        known = counts.get(case.node_id) or TestCounts(node_id=case.node_id)
        failed = case.kind in _FAILED
        counts[case.node_id] = known.model_copy(
            update={
                "passed": known.passed + (case.kind == "passed"),
                "failed": known.failed + failed,
                "skipped": known.skipped + (case.kind == "skipped"),
                "message": known.message or (case.message if failed else ""),
            }
        )
    return [counts[node_id] for node_id in sorted(counts)]


async def _run(ground: Ground, number: int, only: Sequence[str], timeout_s: float) -> OneRun:
    order_seed = number or None
    suite = await run_suite(
        ground,
        coverage=False,
        only=only,
        order_seed=order_seed,
        hash_seed=number,
        lean=True,
        timeout_s=timeout_s,
    )
    cases = read_cases(suite.artifact("junit.xml")) or []
    return OneRun(
        order_seed=order_seed,
        hash_seed=number,
        suite=suite,
        cases={case.node_id: case for case in cases},
    )
