"""Conditions over earlier results, written as data, and how they come out.

A condition is a comparison, a status, a decision, or a combination of conditions:

```json
"coverage.line_percent < 80"
{"metric": "coverage.line_percent", "op": "<", "value": 80, "step": "coverage-analyzer#0"}
{"step": "test-executor#1", "status": "failed"}
{"decision": "CONDITIONAL"}
{"and": ["coverage.line_percent < 80", {"not": {"decision": "NO_GO"}}]}
```

What wasn't measured is neither true nor false: three-valued logic (Kleene's) carries that up, and a
condition that comes out unknown does not hold. Workflow-safe: pure functions over recorded results.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from qefleet.contracts.base import Model
from qefleet.contracts.measured import Measured
from qefleet.contracts.runs import AgentResult, Decision, MetricName, StepName, StepStatus

Operator = Literal["<", "<=", ">", ">=", "==", "!="]

_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_SHORT = re.compile(
    r"^\s*(?P<metric>[a-z]\S*?\.\S+?)\s*(?P<op><=|>=|==|!=|<|>)\s*(?P<value>-?\d+(?:\.\d+)?)\s*$"
)
_MAX_DEPTH = 8


class Condition(Model):
    """A question about earlier results; a string such as `coverage.line_percent < 80` is a comparison."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, serialize_by_alias=True)

    metric: MetricName | None = None
    """Compared with `value`; taken from the latest step that has it, or from `step`."""
    op: Operator | None = None
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    step: StepName | None = None
    status: StepStatus | None = None
    """How `step` ended."""
    decision: Decision | None = None
    """What the latest gate decided."""
    all_of: list[Condition] | None = Field(default=None, alias="and", min_length=1, max_length=32)
    any_of: list[Condition] | None = Field(default=None, alias="or", min_length=1, max_length=32)
    none_of: Condition | None = Field(default=None, alias="not")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _SHORT.match(value)
        if not found:
            raise ValueError("write a comparison such as 'coverage.line_percent < 80', or an object")
        return {"metric": found["metric"], "op": found["op"], "value": float(found["value"])}

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = [
            name
            for name, given in (
                ("metric", self.metric),
                ("status", self.status),
                ("decision", self.decision),
                ("and", self.all_of),
                ("or", self.any_of),
                ("not", self.none_of),
            )
            if given is not None
        ]
        if len(forms) != 1:
            raise ValueError("give exactly one of metric, status, decision, and, or, not")
        if self.metric and (self.op is None or self.value is None):
            raise ValueError("a metric is compared: give op and value")
        if not self.metric and (self.op is not None or self.value is not None):
            raise ValueError("op and value go with a metric")
        if self.status and self.step is None:
            raise ValueError("a status is a step's: give step")
        if self.step and not (self.metric or self.status):
            raise ValueError("step goes with a metric or a status")
        if _depth(self) > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH}")
        return self

    def __str__(self) -> str:
        if self.metric:
            where = f" in {self.step}" if self.step else ""
            return f"{self.metric}{where} {self.op} {self.value:g}"
        if self.status:
            return f"{self.step} is {self.status}"
        if self.decision:
            return f"decision is {self.decision.value}"
        if self.none_of:
            return f"not ({self.none_of})"
        word = " and " if self.all_of else " or "
        return word.join(f"({part})" if part.all_of or part.any_of else str(part) for part in self.parts)

    @property
    def parts(self) -> Sequence[Condition]:
        """The conditions that this one combines."""
        return self.all_of or self.any_of or ([self.none_of] if self.none_of else [])

    def leaves(self, path: str) -> Iterator[tuple[str, Condition]]:
        """All comparisons in it, each with its path in the input, such as `when.and.1`."""
        if not self.parts:
            yield path, self
        elif self.none_of:
            yield from self.none_of.leaves(f"{path}.not")
        else:
            for number, part in enumerate(self.parts):
                yield from part.leaves(f"{path}.{'and' if self.all_of else 'or'}.{number}")


class Evaluation(Model):
    """How a condition came out, so that a person sees why a branch was taken."""

    label: str
    """What depends on it, such as `branches.0` or a step's id."""
    condition: str
    outcome: bool | None
    """Null: something that it asks about wasn't measured. It does not hold then."""
    facts: list[str]
    """What it was told from, such as `coverage.line_percent = 75.3 (coverage-analyzer#2)`."""

    @property
    def holds(self) -> bool:
        """Whether what depends on it is run."""
        return self.outcome is True

    def __str__(self) -> str:
        outcome = {True: "holds", False: "does not hold", None: "is unknown"}[self.outcome]
        return f"{self.label}: {self.condition} {outcome} [{'; '.join(self.facts)}]"


def evaluate(condition: Condition, results: Sequence[AgentResult], *, label: str) -> Evaluation:
    """Ask a condition about results, the latest last."""
    facts: list[str] = []
    outcome = _evaluate(condition, results, facts)
    return Evaluation(
        label=label, condition=str(condition), outcome=outcome, facts=list(dict.fromkeys(facts))
    )


def _evaluate(condition: Condition, results: Sequence[AgentResult], facts: list[str]) -> bool | None:
    if condition.metric:
        return _compare(condition, results, facts)
    if condition.status:
        return _status(condition, results, facts)
    if condition.decision:
        decision = next((result.decision for result in reversed(results) if result.decision), None)
        facts.append(f"decision = {decision.value if decision else 'none yet'}")
        return None if decision is None else decision is condition.decision
    outcomes = [_evaluate(part, results, facts) for part in condition.parts]
    if condition.none_of:
        return None if outcomes[0] is None else not outcomes[0]
    decisive = bool(condition.any_of)
    if decisive in outcomes:
        return decisive
    return None if None in outcomes else not decisive


def _compare(condition: Condition, results: Sequence[AgentResult], facts: list[str]) -> bool | None:
    assert condition.metric is not None
    assert condition.op is not None
    assert condition.value is not None
    for result in reversed(results):
        if condition.step not in (None, result.step):
            continue
        match result.measured.metrics.get(condition.metric):
            case Measured(value=value):
                facts.append(f"{condition.metric} = {value:g} ({result.step})")
                return bool(_COMPARE[condition.op](value, condition.value))
            case None:
                continue
            case unmeasured:
                facts.append(f"{condition.metric} is not measured: {unmeasured.reason} ({result.step})")
                return None
    facts.append(f"{condition.metric} is not measured: no step that was run has it")
    return None


def _status(condition: Condition, results: Sequence[AgentResult], facts: list[str]) -> bool | None:
    found = next((result for result in results if result.step == condition.step), None)
    facts.append(f"{condition.step} is {found.status if found else 'not run'}")
    return found.status == condition.status if found else condition.status == "skipped"


def _depth(condition: Condition) -> int:
    return 1 + max((_depth(part) for part in condition.parts), default=0)
