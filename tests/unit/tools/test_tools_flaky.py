"""Failure rates, bisection and quarantine of flaky tests, without running any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from qefleet.tools.flakiness.flaky import quarantine_lines
from qefleet.tools.flakiness.flaky_causes import Laboratory, OutOfRunsError, find_cause
from qefleet.tools.flakiness.rates import caught, runs_to_catch, unseen_rate, wilson
from qefleet.tools.running.junit import Case
from qefleet.tools.running.repeat import OneRun, count_tests

_ANY: Any = None


def test_intervals_and_probabilities() -> None:
    """Against values from the literature and from plain arithmetic."""
    assert [round(end, 4) for end in wilson(1, 10)] == [0.0179, 0.4042]
    assert [round(end, 4) for end in wilson(0, 10)] == [0.0, 0.2775]
    assert wilson(10, 10)[1] == 1.0
    assert round(caught(0.1, 5), 3) == 0.410
    assert (runs_to_catch(0.1), runs_to_catch(0.5), runs_to_catch(1.0)) == (29, 5, 1)
    assert caught(0.1, 28) < 0.95 <= caught(0.1, 29)
    assert round(unseen_rate(29), 3) == 0.098


def test_quarantine_leaves_no_other_test_out() -> None:
    """`--deselect` takes prefixes: `test_b` would take `test_bad` along."""
    lines, unsafe = quarantine_lines(["a::test_b", "a::test_c"], ["a::test_b", "a::test_bad", "a::test_c"])
    assert (lines, unsafe) == (["--deselect=a::test_c"], ["a::test_b"])


class _Pretended(Laboratory):
    """A laboratory over tests of which the culprits are known."""

    def __init__(self, runs: int, culprits: set[str]) -> None:
        super().__init__(ground=_ANY, runs=runs, until=0, timeout_s=1)
        self.culprits = culprits
        self.asked = 0

    async def passes(self, tests: Sequence[str], *, hash_seed: int) -> bool | None:
        del hash_seed
        if self.runs <= 0:
            raise OutOfRunsError
        self.runs -= 1
        self.asked += 1
        return not self.culprits <= {*tests[:-1]}


@pytest.mark.parametrize("culprits", [{"t0"}, {"t77"}, {"t199"}, {"t3", "t150"}])
async def test_bisection_names_exactly_the_culprits_in_few_runs(culprits: set[str]) -> None:
    """Of 200 tests; one takes 2 log2(200) = 16 runs at most, two some more, beside those that confirm it."""
    runs = _one_failing([f"t{n}" for n in range(200)])
    laboratory = _Pretended(200, culprits)

    cause = await find_cause(laboratory, count_tests(runs)[-1], runs)

    assert ({*cause.partners}, cause.needs_partners) == (culprits, False)
    assert laboratory.asked - 15 <= (17 if len(culprits) == 1 else 100)


async def test_without_runs_left_a_test_is_flaky_and_unexplained() -> None:
    runs = _one_failing(["t0", "t1"])

    cause = await find_cause(_Pretended(7, {"t0"}), count_tests(runs)[-1], runs)

    assert cause.kind == "unexplained"
    assert "max_experiments" in cause.explanation


def _one_failing(before: list[str]) -> list[OneRun]:
    """A run in which `victim` fails after these."""

    def case(name: str, kind: str) -> Case:
        return Case(node_id=name, classname="", name=name, duration_s=0.0, kind=kind, message="")

    cases = {name: case(name, "passed") for name in before} | {"victim": case("victim", "failure")}
    return [OneRun(order_seed=1, hash_seed=1, suite=_ANY, cases=cases)]
