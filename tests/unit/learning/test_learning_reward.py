"""Rewards from measurements, states from source, examples from what was kept."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qefleet.agents.strategies import gains_of
from qefleet.contracts.generation import Filter, KeptTest, Segment, Verdict
from qefleet.contracts.learning import Features, Gains, Policy, Strategy
from qefleet.learning.features import features_of
from qefleet.learning.offer import offered
from qefleet.learning.patterns import MOST_CHARS, Pattern, distil, recall
from qefleet.learning.reward import WEIGHTS, effort, reward, shares
from qefleet.tools.generation.pynguin import PYNGUIN, can_search
from qefleet.tools.source_tree import parse_source

_SOURCE = '''class Box:
    """A box.

    >>> Box().add(1)
    1
    """

    def add(self, n: int, *, twice: bool = False) -> int:
        return n


def plain(a, b):
    return a


def nothing():
    return 1
'''


def _segment(qualname: str, start: int, end: int, parameters: list[str], header: str = "") -> Segment:
    return Segment(
        id=f"m:{qualname}",
        file="m.py",
        module="m",
        qualname=qualname,
        start_line=start,
        end_line=end,
        source="",
        missing_lines=[start + 1],
        missing_branches=[],
        parameters=parameters,
        class_header=header,
        import_line="from m import x",
    )


def _features(**changed: object) -> Features:
    plain = {"kind": "function", "example": False, "typed": False, "size": "short", "missing": "few"}
    return Features.model_validate(plain | {"model": "none"} | changed)


def test_a_reward_is_the_weighted_sum_of_its_shares() -> None:
    """Half of what was missing, 3 of 4 mutants, 1 of 2 tests; 30 of 60 seconds, 0.01 of 0.05 dollars."""
    gains = Gains(
        missing=10,
        gained=5,
        proposed=2,
        kept=1,
        mutants_killed=3,
        mutants_tried=4,
        processes=20,
        output_tokens=300,
        cost_usd=0.01,
    )

    assert shares(gains) == pytest.approx(
        {"coverage": 0.5, "mutants": 0.75, "kept": 0.5, "time": 0.5, "cost": 0.2, "flaky": 0.0}
    )
    expected = 0.30 * 0.5 + 0.25 * 0.75 + 0.15 * 0.5 - 0.20 * 0.5 - 0.10 * 0.2
    assert reward(gains) == pytest.approx(expected)


def test_nothing_for_nothing() -> None:
    """What proposes nothing costs nothing and gains nothing."""
    assert reward(Gains(missing=3)) == 0.0


@given(st.builds(Gains, **{name: st.integers(0, 500) for name in Gains.model_fields}))
def test_a_reward_keeps_within_its_bounds(gains: Gains) -> None:
    """Whatever is counted: at most the sum of what gains, at least minus what costs."""
    assert -0.45 - 1e-9 <= reward(gains) <= 0.7 + 1e-9


def test_seconds_do_not_count() -> None:
    """A busy machine doesn't change what is learnt."""
    assert reward(Gains(kept=1, proposed=1, duration_s=900)) == reward(Gains(kept=1, proposed=1))


def test_verdicts_are_counted() -> None:
    """Kept, flaky, and the runs that all of them took; a proposal without a test is none."""
    kept = Verdict(
        test="a", segment="m:x", kept=True, gained_lines=2, gained_branches=1, mutants_killed=2,
        mutants_tried=3, runs=5,
    )  # fmt: skip
    flaky = Verdict(
        test="b", segment="m:x", kept=False, filter=Filter.RUNS, reason="passed at first, then: it fails",
        runs=3,
    )  # fmt: skip
    none = Verdict(test="(none)", segment="m:x", kept=False, filter=Filter.STATIC)

    assert gains_of(_segment("plain", 12, 13, ["a", "b"]), [kept, flaky, none]) == Gains(
        missing=1, gained=3, proposed=2, kept=1, flaky=1, mutants_killed=2, mutants_tried=3, processes=11
    )


def test_features_are_read_from_the_source() -> None:
    """A typed method whose class has an example; a plain function; one without parameters isn't typed."""
    tree = parse_source(_SOURCE)
    method = features_of(_segment("Box.add", 8, 9, ["n", "twice"], "class Box:"), tree, model="local")
    plain = features_of(_segment("plain", 12, 40, ["a", "b"]), tree, model="none")
    nothing = features_of(_segment("nothing", 16, 17, []), tree, model="openai/x")

    assert method.key == "method/example/typed/short/few/local"
    assert plain.key == "function/no-example/untyped/long/few/none"
    assert nothing.key == "function/no-example/untyped/short/few/large"


def test_each_way_can_be_fixed() -> None:
    """A policy names each strategy, and besides no learning and learning."""
    fixed = {policy.strategy for policy in Policy} - {None}

    assert fixed == set(Strategy)
    assert len(Policy) == len(Strategy) + 2


def test_what_needs_a_model_is_offered_with_a_model_only() -> None:
    """And recalling only where there is something to recall; what is done without learning comes first."""
    without = offered(uses_model=False, recalls=True, pynguin=True)

    assert not any(strategy.uses_model for strategy in without)
    assert without[0] is Strategy.TOOLS
    assert offered(uses_model=True, recalls=False, pynguin=True)[0] is Strategy.DIRECT
    assert Strategy.RECALLED in offered(uses_model=True, recalls=True, pynguin=True)
    assert Strategy.RECALLED not in offered(uses_model=True, recalls=False, pynguin=True)


@pytest.mark.parametrize("uses_model", [False, True])
def test_pynguin_is_offered_only_where_it_is_there(uses_model: bool) -> None:
    """With a model and without one; the other ways are the same."""
    there = offered(uses_model=uses_model, recalls=False, pynguin=True)
    missing = offered(uses_model=uses_model, recalls=False, pynguin=False)

    assert there == (*missing, Strategy.PYNGUIN)


def test_pynguin_is_there_for_targets_of_the_same_python() -> None:
    """It runs the target's code: 3.11 has no use for what was installed for 3.12."""
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"

    assert can_search(f"{mine}.99") == (PYNGUIN.version() is not None)
    assert not can_search(f"{mine}9.0")
    assert not can_search("2.7.18")


def test_a_search_by_pynguin_costs_time_and_other_ways_what_they_ran() -> None:
    """Ten seconds of sixty, whatever the machine was doing."""
    spent = {strategy: reward(effort(strategy)) for strategy in Strategy}

    assert spent.pop(Strategy.PYNGUIN) == pytest.approx(-WEIGHTS.time * 10 / 60)
    assert set(spent.values()) == {0.0}


def _pattern(target: str, source: str = "def test_x():\n    assert 1", **features: object) -> Pattern:
    test = KeptTest(name="test_x", segment=target, module="m", imports=["import m"], source=source)
    return distil(test, _features(**features))


def test_the_most_alike_patterns_are_recalled_within_the_limit() -> None:
    """Of the same module and kind before others, of equals the better score; never more than fits."""
    known = [
        ("far", _pattern("n:Other.thing", kind="method"), 0.5),
        ("near", _pattern("m:parse_int"), 0.5),
        ("nearer", _pattern("m:parse_float"), 0.9),
        ("huge", _pattern("m:parse_float", "x" * MOST_CHARS), 1.0),
    ]

    assert recall(known, _features(), "m:parse_float_or_int") == ["nearer", "near"]


def test_one_test_is_one_pattern_a_project() -> None:
    """Whichever run keeps it; another project's is another one."""
    pattern = _pattern("m:f")

    assert pattern.id_for("a", "p") == _pattern("m:f").id_for("a", "p")
    assert pattern.id_for("a", "p") != pattern.id_for("a", "q")
