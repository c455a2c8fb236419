"""Conditions, right and wrong, as they are checked when a run starts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import check_condition, check_options, undeclared
from qefleet.contracts.conditions import Condition
from qefleet.contracts.measured import Measurement, Unmeasured
from qefleet.contracts.steps import ConditionCheck
from qefleet.errors import InvalidInput
from worker.plugin import describe

_STEPS = {
    "coverage-analyzer#0": "coverage-analyzer",
    "test-generator#1": "test-generator",
    "test-executor#2": "test-executor",
    "quality-gate#3": "quality-gate",
    "quality-gate#4": "quality-gate",
}
_EXPANDED = ["test-generator#1"]
_BEFORE = [name for name in _STEPS if name != "quality-gate#4"]


class _Branch(BaseModel):
    when: Condition


def _check(condition: Any, steps: list[str] | None = None) -> None:
    catalogue = built_in()
    when = _Branch.model_validate({"when": condition}).when
    check = ConditionCheck(field="when", condition=when, steps=_BEFORE if steps is None else steps)
    agents = {name: catalogue.get(agent) for name, agent in _STEPS.items()}
    check_condition(check, agents, expanded=_EXPANDED)


@pytest.mark.parametrize(
    "condition",
    [
        "coverage.line_percent < 80",
        "tests.failed == 0",
        "coverage.before.line_percent<=79.5",
        "generation.kept > 0",
        "generation.rejected.mutants >= 1",
        "items.failed > 0",
        {"metric": "tests.passed", "op": "!=", "value": 0, "step": "test-executor#2"},
        {"metric": "coverage.line_percent", "op": ">", "value": 1, "step": "quality-gate#3"},
        {"step": "test-generator#1", "status": "failed"},
        {"decision": "NO_GO"},
        {"and": ["tests.failed == 0", {"or": [{"decision": "GO"}, {"not": "mutants.total < 1"}]}]},
    ],
    ids=str,
)
def test_a_right_condition_is_accepted(condition: Any) -> None:
    """It asks for something that a step before it may have found."""
    _check(condition)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("coverage < 80", "when: write a comparison such as"),
        (
            "coverage.line_percent < high",
            "when: write a comparison such as 'coverage.line_percent < 80', or an object",
        ),
        ("coverage.line_percent", "when: write a comparison such as"),
        ({"metric": "coverage.line_percent"}, "when: a metric is compared: give op and value"),
        ({"metric": "x", "op": "<", "value": 1}, "when.metric: String should match pattern"),
        ({"metric": "a.b", "op": "=<", "value": 1}, "when.op: Input should be '<', '<='"),
        ({"metric": "a.b", "op": "<", "value": "high"}, "when.value: Input should be a valid number"),
        ({"metric": "a.b", "op": "<", "value": 1, "decision": "GO"}, "when: give exactly one of metric,"),
        ({"decision": "MAYBE"}, "when.decision: Input should be 'GO', 'CONDITIONAL' or 'NO_GO'"),
        ({"status": "failed"}, "when: a status is a step's: give step"),
        ({"step": "a#0", "decision": "GO"}, "when: step goes with a metric or a status"),
        ({"and": []}, "when.and: List should have at least 1 item"),
        ({"or": ["a.b < 1", "a.b ~ 1"]}, "when.or.1: write a comparison such as"),
        ({"and": [{"not": {"deciison": "GO"}}]}, "when.and.0.not.deciison: Extra inputs are not permitted"),
        ({"nor": ["a.b < 1"]}, "when.nor: Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_a_condition_that_is_none_is_refused_by_its_path(condition: Any, message: str) -> None:
    """What can't be read is told by the place in the input where it stands."""
    with pytest.raises(ValidationError) as caught:
        _check(condition)

    assert any(line.startswith(message) for line in describe(caught.value).split("; "))


@pytest.mark.parametrize(
    ("condition", "field", "reason"),
    [
        (
            "coverage.line_percnt < 80",
            "when",
            "no step before measures this metric; near it: coverage.line_percent",
        ),
        ("security.critical > 0", "when", "no step before measures this metric; "),
        (
            "coverage.before.generated > 1",
            "when",
            "no step before measures this metric; near it: coverage.before.",
        ),
        (
            {"metric": "generation.kept", "op": ">", "value": 0, "step": "test-executor#2"},
            "when",
            "test-executor#2 doesn't measure this metric; there are: tests.errors, tests.failed",
        ),
        (
            {"metric": "coverage.before.line_percent", "op": ">", "value": 0, "step": "test-generator#1"},
            "when",
            "test-generator#1 doesn't measure this metric; ",
        ),
        (
            {"and": ["tests.failed == 0", {"step": "test-executor#1", "status": "failed"}]},
            "when.and.1",
            "no such step ends before; near it: test-executor#2",
        ),
        (
            {"step": "quality-gate#4", "status": "failed"},
            "when",
            "no such step ends before; near it: quality-gate#3",
        ),
        (
            {"not": {"or": ["tests.failed == 0", "tests.faled == 0"]}},
            "when.not.or.1",
            "near it: tests.failed",
        ),
    ],
    ids=str,
)
def test_a_condition_about_nothing_that_is_there_is_refused(condition: Any, field: str, reason: str) -> None:
    """A misspelt metric, a step that isn't there or that comes later: at its path, with near names."""
    with pytest.raises(InvalidInput) as caught:
        _check(condition)

    assert caught.value.field == field
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"decision": "GO"}, "no agent before decides anything"),
        ("coverage.line_percent < 80", "no step before measures this metric; "),
    ],
)
def test_who_comes_before_decides(condition: Any, reason: str) -> None:
    """The same conditions that are right after all agents ask for nothing after the executor alone."""
    with pytest.raises(InvalidInput) as caught:
        _check(condition, ["test-executor#2"])

    assert reason in caught.value.reason


def test_a_gate_measures_nothing_by_itself() -> None:
    """What it passes on has to come from somewhere."""
    with pytest.raises(InvalidInput, match="there is none"):
        _check("tests.failed == 0", ["quality-gate#3"])


def test_options_are_refused_by_their_path() -> None:
    """As the user wrote it."""
    with pytest.raises(InvalidInput) as caught:
        check_options(built_in().get("test-generator"), {"max_rounds": 9}, field="tasks.1.options")

    assert caught.value.field == "tasks.1.options.max_rounds"


def test_undeclared_metrics_are_named() -> None:
    """For whoever writes an agent."""
    found = Measurement(metrics={"tests.failed": Unmeasured(reason="x"), "b.c": Unmeasured(reason="x")})

    assert undeclared(built_in().get("test-executor"), found) == ["b.c"]
