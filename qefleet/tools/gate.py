"""The quality gate: thresholds against measurements, in plain arithmetic. No model has a vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qefleet.contracts.gate import GateDecision, RuleResult
from qefleet.contracts.measured import Measured, Metric, Unmeasured
from qefleet.contracts.runs import Decision, Limit, Thresholds


def decide(
    thresholds: Thresholds,
    metrics: Mapping[str, Metric],
    *,
    failed_steps: int = 0,
    failed_tools: Sequence[str] = (),
    diff: bool = False,
    limits: Mapping[str, Limit] | None = None,
) -> GateDecision:
    """Check every threshold that is set, and that no coverage is lost where some agent looked at it.

    | rule | metric | severity |
    |---|---|---|
    | `failed_tests_max` | `tests.failed` + `tests.errors` | hard |
    | `failed_steps_max` | `steps.failed` | hard |
    | `failed_tools_max` | `tools.failed` | hard |
    | `coverage_drop_max` | `coverage.before.line_percent` - `coverage.line_percent` | hard |
    | `line_percent_min` | `coverage.line_percent` | soft |
    | `branch_percent_min` | `coverage.branch_percent` | soft |

    A hard rule that fails says NO_GO: something that worked is broken or lost. A soft one says
    CONDITIONAL: nothing got worse, but there is less than was asked for. Whatever wasn't measured
    says NO_GO: nobody knows. Percentages are compared as they are, without rounding.

    In diff mode three rules look at what has changed alone:

    | rule | metric |
    |---|---|
    | `failed_tests_max` | `tests.failed` + `tests.errors` - `tests.failed_before` |
    | `line_percent_min` | `diff.line_percent` |
    | `branch_percent_min` | `diff.branch_percent` |

    Each limit on a metric, those that agents declare and those of `thresholds.metrics`, is a rule of its own.

    Where no statement or no branch has changed, its rule is left out; a failure that isn't known to be old
    counts as new.

    Args:
        thresholds: What is asked for.
        metrics: What the steps before have measured.
        failed_steps: Of them, how many failed or were cancelled, items of expansions among them. It is
            counted, not measured: the rule names it `steps.failed`.
        failed_tools: Of those that completed, the tools whose reports don't count.
        diff: Whether the run is in diff mode.
        limits: By metric: what the agents of the run declare. `thresholds.metrics` has the last word.
    """
    if thresholds.coverage_drop_max is None and "coverage.line_percent" in metrics:
        thresholds = thresholds.model_copy(update={"coverage_drop_max": 0.0})
    numbers = {name: metric.value for name, metric in metrics.items() if isinstance(metric, Measured)}
    numbers |= {"steps.failed": float(failed_steps), "tools.failed": float(len(failed_tools))}
    asked = [
        (rule, float(limit))
        for rule in (_DIFF_RULES if diff else _RULES)
        if (limit := getattr(thresholds, rule.threshold)) is not None
    ]
    left_out = {rule.threshold: why for rule, _ in asked if (why := _nothing_changed(rule, metrics))}
    results = [
        _check(rule, limit, numbers, metrics) for rule, limit in asked if rule.threshold not in left_out
    ]
    if failed_tools:
        results = [
            result.model_copy(update={"reason": f"{result.reason}: {', '.join(failed_tools)}"})
            if result.rule == "failed_tools_max"
            else result
            for result in results
        ]
    wanted = {**(limits or {}), **thresholds.metrics}
    results += [
        _check(rule, bound, numbers, metrics)
        for name, limit in sorted(wanted.items())
        if limit
        for rule, bound in _limit_rules(name, limit)
    ]
    failed = [result for result in results if not result.passed]
    hard = [result for result in failed if result.severity == "hard" or result.actual is None]
    if hard:
        return GateDecision(decision=Decision.NO_GO, rules=results, reason=_sentence(hard), left_out=left_out)
    if failed:
        return GateDecision(
            decision=Decision.CONDITIONAL, rules=results, reason=_sentence(failed), left_out=left_out
        )
    passed = f"{len(results)} of {len(results)} rules hold" if results else "no rule was asked for"
    return GateDecision(decision=Decision.GO, rules=results, reason=passed, left_out=left_out)


@dataclass(frozen=True)
class _Rule:
    threshold: str
    metric: str
    severity: Literal["hard", "soft"]
    wants: Literal["at most", "at least"]
    parts: tuple[str, ...]
    combine: Callable[..., float]
    less: str | None = None
    """A metric that is taken away where it was measured."""


def _same(value: float) -> float:
    return value


_RULES = (
    _Rule(
        "failed_tests_max", "tests.failed", "hard", "at most", ("tests.failed", "tests.errors"), float.__add__
    ),
    _Rule("failed_steps_max", "steps.failed", "hard", "at most", ("steps.failed",), _same),
    _Rule("failed_tools_max", "tools.failed", "hard", "at most", ("tools.failed",), _same),
    _Rule(
        "coverage_drop_max",
        "coverage.drop",
        "hard",
        "at most",
        ("coverage.before.line_percent", "coverage.line_percent"),
        float.__sub__,
    ),
    _Rule("line_percent_min", "coverage.line_percent", "soft", "at least", ("coverage.line_percent",), _same),
    _Rule(
        "branch_percent_min",
        "coverage.branch_percent",
        "soft",
        "at least",
        ("coverage.branch_percent",),
        _same,
    ),
)

_DIFF_RULES = (
    _Rule(
        "failed_tests_max",
        "tests.failed_new",
        "hard",
        "at most",
        ("tests.failed", "tests.errors"),
        float.__add__,
        less="tests.failed_before",
    ),
    *(
        rule
        for rule in _RULES
        if rule.threshold in {"coverage_drop_max", "failed_steps_max", "failed_tools_max"}
    ),
    _Rule("line_percent_min", "diff.line_percent", "soft", "at least", ("diff.line_percent",), _same),
    _Rule("branch_percent_min", "diff.branch_percent", "soft", "at least", ("diff.branch_percent",), _same),
)


def _limit_rules(name: str, limit: Limit) -> list[tuple[_Rule, float]]:
    rules: list[tuple[_Rule, float]] = []
    if limit.max is not None:
        rules.append((_Rule(name, name, limit.severity, "at most", (name,), _same), limit.max))
    if limit.min is not None:
        rules.append((_Rule(name, name, limit.severity, "at least", (name,), _same), limit.min))
    return rules


_OF_WHAT = {
    "diff.line_percent": ("diff.lines_total", "no statement has changed"),
    "diff.branch_percent": ("diff.branches_total", "no branch has changed"),
}


def _nothing_changed(rule: _Rule, metrics: Mapping[str, Metric]) -> str | None:
    """Why a rule of diff mode has nothing to compare; None where it has, or where nobody knows."""
    count, why = _OF_WHAT.get(rule.metric, ("", ""))
    total = metrics.get(count)
    return why if isinstance(total, Measured) and total.value == 0 else None


def _check(
    rule: _Rule, limit: float, numbers: Mapping[str, float], metrics: Mapping[str, Metric]
) -> RuleResult:
    for name in rule.parts:
        if name not in numbers:
            metric = metrics.get(name)
            why = metric.reason if isinstance(metric, Unmeasured) else "no tool measured it"
            return _result(rule, limit, None, passed=False, reason=f"{name} is not measured: {why}")
    values = [numbers[name] for name in rule.parts]
    actual = rule.combine(*values)
    actual -= numbers.get(rule.less or "", 0.0)
    passed = actual <= limit if rule.wants == "at most" else actual >= limit
    return _result(
        rule,
        limit,
        actual,
        passed=passed,
        reason=f"{rule.metric} is {actual:g}, {rule.wants} {limit:g} asked",
    )


def _result(rule: _Rule, limit: float, actual: float | None, *, passed: bool, reason: str) -> RuleResult:
    return RuleResult(
        rule=rule.threshold,
        metric=rule.metric,
        severity=rule.severity,
        limit=limit,
        actual=actual,
        passed=passed,
        reason=reason,
    )


def _sentence(failed: list[RuleResult]) -> str:
    return "; ".join(result.reason for result in failed)
