"""The gate's arithmetic."""

from __future__ import annotations

import pytest

from qefleet.contracts.measured import Measured, Metric, Unmeasured
from qefleet.contracts.runs import Decision, Limit, Thresholds
from qefleet.tools.gate import decide


def _metrics(**values: float) -> dict[str, Metric]:
    base = {
        "tests.failed": 0.0,
        "tests.errors": 0.0,
        "coverage.line_percent": 90.0,
        "coverage.branch_percent": 80.0,
        "coverage.before.line_percent": 90.0,
    }
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {name: Measured(value=value, unit="", tool=0) for name, value in (base | named).items()}


@pytest.mark.parametrize(
    ("thresholds", "metrics", "expected"),
    [
        (Thresholds(), _metrics(), Decision.GO),
        (Thresholds(), _metrics(tests__failed=1), Decision.NO_GO),
        (Thresholds(), _metrics(tests__errors=1), Decision.NO_GO),
        (Thresholds(failed_tests_max=2), _metrics(tests__failed=1, tests__errors=1), Decision.GO),
        (Thresholds(), _metrics(coverage__line_percent=89.999), Decision.NO_GO),
        (Thresholds(coverage_drop_max=1), _metrics(coverage__line_percent=89), Decision.GO),
        (Thresholds(line_percent_min=90), _metrics(), Decision.GO),
        (Thresholds(line_percent_min=90.001), _metrics(), Decision.CONDITIONAL),
        (Thresholds(branch_percent_min=85), _metrics(), Decision.CONDITIONAL),
        (Thresholds(line_percent_min=95), _metrics(tests__failed=1), Decision.NO_GO),
        (Thresholds(failed_tests_max=None), {}, Decision.GO),
        (Thresholds(coverage_drop_max=0), {}, Decision.NO_GO),
    ],
)
def test_each_threshold_decides_by_its_severity(
    thresholds: Thresholds, metrics: dict[str, Metric], expected: Decision
) -> None:
    """Broken tests and lost coverage stop; less than was asked for is conditional; bounds are inclusive."""
    assert decide(thresholds, metrics).decision is expected


@pytest.mark.parametrize(
    ("allowed", "failed", "expected"),
    [(0, 0, Decision.GO), (0, 1, Decision.NO_GO), (2, 2, Decision.GO), (None, 9, Decision.GO)],
)
def test_failed_steps_close_the_gate(allowed: int | None, failed: int, expected: Decision) -> None:
    """What did not come to its end says nothing: so many of them are allowed, none by default."""
    found = decide(Thresholds(failed_steps_max=allowed), _metrics(), failed_steps=failed)

    assert found.decision is expected
    assert ("steps.failed" in found.reason) == (expected is Decision.NO_GO)


@pytest.mark.parametrize("name", ["tests.failed", "coverage.line_percent", "coverage.before.line_percent"])
def test_what_is_not_measured_fails(name: str) -> None:
    """A number that no tool gave closes the gate, whether it is marked or missing, hard or soft."""
    metrics = _metrics()
    absent = {key: value for key, value in metrics.items() if key != name}
    marked: dict[str, Metric] = {**metrics, name: Unmeasured(reason="the tool crashed")}

    decisions = [decide(Thresholds(line_percent_min=1), found).decision for found in (absent, marked)]

    assert decisions == [Decision.NO_GO, Decision.NO_GO]


def test_reason_names_the_rules_that_decided() -> None:
    """A reader learns the figure and the limit without looking anything up."""
    found = decide(Thresholds(), _metrics(tests__failed=2))

    assert found.reason == "tests.failed is 2, at most 0 asked"
    assert [(rule.rule, rule.actual, rule.passed) for rule in found.rules] == [
        ("failed_tests_max", 2.0, False),
        ("failed_steps_max", 0.0, True),
        ("failed_tools_max", 0.0, True),
        ("coverage_drop_max", 0.0, True),
    ]


def _diff(**values: float) -> dict[str, Metric]:
    base = {"diff__lines_total": 10.0, "diff__line_percent": 90.0, "diff__branches_total": 4.0}
    return _metrics(**(base | {"diff__branch_percent": 75.0, "coverage__line_percent": 10.0} | values))


@pytest.mark.parametrize(
    ("thresholds", "metrics", "expected"),
    [
        (Thresholds(line_percent_min=90), _diff(), Decision.GO),
        (Thresholds(line_percent_min=91), _diff(), Decision.CONDITIONAL),
        (Thresholds(branch_percent_min=80), _diff(), Decision.CONDITIONAL),
        (Thresholds(), _diff(tests__failed=2, tests__failed_before=2), Decision.GO),
        (Thresholds(), _diff(tests__failed=2, tests__errors=1, tests__failed_before=2), Decision.NO_GO),
        (Thresholds(), _diff(tests__failed=1), Decision.NO_GO),
        (Thresholds(line_percent_min=90), {"tests.failed": Unmeasured(reason="")}, Decision.NO_GO),
    ],
)
def test_diff_mode_compares_what_has_changed(
    thresholds: Thresholds, metrics: dict[str, Metric], expected: Decision
) -> None:
    """The whole project's coverage and old failures don't count; what isn't known to be old is new."""
    metrics.pop("coverage.before.line_percent", None)
    thresholds = thresholds.model_copy(update={"coverage_drop_max": None})
    metrics.pop("coverage.line_percent", None)

    assert decide(thresholds, metrics, diff=True).decision is expected


def test_diff_mode_leaves_out_what_has_nothing_to_compare() -> None:
    """A change of comments alone can't be uncovered."""
    metrics = _diff(diff__lines_total=0, diff__branches_total=0)
    thresholds = Thresholds(line_percent_min=100, branch_percent_min=100, coverage_drop_max=100)

    gate = decide(thresholds, metrics, diff=True)

    assert gate.decision is Decision.GO
    assert gate.left_out == {
        "line_percent_min": "no statement has changed",
        "branch_percent_min": "no branch has changed",
    }
    assert [rule.rule for rule in gate.rules] == [
        "failed_tests_max",
        "failed_steps_max",
        "failed_tools_max",
        "coverage_drop_max",
    ]


@pytest.mark.parametrize(
    ("limit", "value", "decision"),
    [
        (Limit(max=0), 0.0, Decision.GO),
        (Limit(max=0), 1.0, Decision.NO_GO),
        (Limit(max=0, severity="soft"), 1.0, Decision.CONDITIONAL),
        (Limit(min=80), 79.9, Decision.NO_GO),
        (Limit(min=1, max=3), 2.0, Decision.GO),
        (Limit(max=0, severity="soft"), None, Decision.NO_GO),
    ],
)
def test_limits_of_agents_are_rules(limit: Limit, value: float | None, decision: Decision) -> None:
    metric: Metric = (
        Unmeasured(reason="bandit isn't installed")
        if value is None
        else Measured(value=value, unit="issues", tool=0)
    )
    gate = decide(
        Thresholds(failed_tests_max=None), {"security.high": metric}, limits={"security.high": limit}
    )
    assert gate.decision is decision


def test_thresholds_have_the_last_word_on_limits() -> None:
    metrics: dict[str, Metric] = {"security.high": Measured(value=2, unit="issues", tool=0)}
    limits = {"security.high": Limit(max=0)}
    asked = Thresholds(failed_tests_max=None, metrics={"security.high": Limit(max=2)})
    assert decide(asked, metrics, limits=limits).decision is Decision.GO
    dropped = Thresholds(failed_tests_max=None, metrics={"security.high": None})
    assert [rule.rule for rule in decide(dropped, metrics, limits=limits).rules] == [
        "failed_steps_max",
        "failed_tools_max",
    ]
    other = Thresholds(failed_tests_max=None, metrics={"quality.errors": Limit(max=0)})
    assert decide(other, metrics, limits={}).decision is Decision.NO_GO


def test_a_tool_that_broke_closes_the_gate() -> None:
    """Even where no threshold asks for what it would have measured."""
    thresholds = Thresholds(failed_tests_max=None)
    assert decide(thresholds, {}, failed_tools=["mypy"]).reason == "tools.failed is 1, at most 0 asked: mypy"
    assert decide(thresholds, {}, failed_tools=["mypy"]).decision is Decision.NO_GO
    forgiving = thresholds.model_copy(update={"failed_tools_max": 1})
    assert decide(forgiving, {}, failed_tools=["mypy"]).decision is Decision.GO
