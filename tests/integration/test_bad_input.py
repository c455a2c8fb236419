"""Bad input, hundreds of kinds: each run fails at once, names the field, and echoes no value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from fakes import FakeFleet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from workflows.pipeline import Pipeline
from workflows.unknown import Unknown

SECRET = "Hunter2 do not echo"
GOOD: dict[str, Any] = {"target": "pypi:x==1"}

# The kinds of the reference: (arguments, what the message must name).
KINDS: list[tuple[list[Any], str]] = [
    ([], "expected one JSON object or string"),
    ([GOOD, GOOD], "expected one JSON object or string"),
    ([None], "expected one JSON object or string"),
    ([7], "input"),
    ([[SECRET]], "input"),
    ([{}], "target"),
    ([{"target": 5}], "target"),
    ([{"target": {"kind": "path", "location": f"relative/{SECRET}"}}], "target"),
    ([SECRET], "target"),
    ([{**GOOD, "agnets": [SECRET]}], "agnets"),
    ([{**GOOD, "agents": SECRET}], "agents"),
    ([{**GOOD, "budget_usd": -1}], "budget_usd"),
    ([{**GOOD, "thresholds": {"line_percent_min": SECRET}}], "thresholds.line_percent_min"),
]


def wrong(*good: type) -> st.SearchStrategy[Any]:
    """JSON values of other types than these; texts carry the secret."""
    values: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-(10**9), 10**9),
        str: st.text(max_size=8).map(lambda text: f"{text}{SECRET}"),
        list: st.lists(st.just(SECRET), min_size=1, max_size=3),
        dict: st.dictionaries(st.sampled_from(["zz", "yy"]), st.just(SECRET), min_size=1, max_size=2),
    }
    return st.one_of(*(strategy for kind, strategy in values.items() if kind not in good))


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "target": wrong(),
    "agents": wrong(list) | st.just([]) | st.lists(wrong(), min_size=1, max_size=3),
    "thresholds": wrong() | st.fixed_dictionaries({"branch_percent_min": wrong(int, bool)}),
    "budget_usd": wrong(int, bool) | st.integers(-1000, 0),
    "model": wrong(str) | st.just("x" * 300),
    "surplus": st.just(SECRET),
}


@pytest.fixture(scope="module")
def generated() -> list[tuple[str, Any]]:
    """At least 200 fields with a value that they don't take."""
    found: list[tuple[str, Any]] = []

    @settings(max_examples=260, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(*(st.tuples(st.just(name), values) for name, values in FIELDS.items())))
    def collect(case: tuple[str, Any]) -> None:
        found.append(case)

    collect()
    return found


@pytest.fixture(scope="module")
async def queue(temporal: WorkflowEnvironment) -> AsyncGenerator[str]:
    name = f"bad-{uuid4().hex[:8]}"
    activities = FakeFleet().activities
    async with Worker(temporal.client, task_queue=name, workflows=[Pipeline, Unknown], activities=activities):
        yield name


async def failure(temporal: WorkflowEnvironment, queue: str, args: list[Any]) -> tuple[str, float]:
    """The message with which a run ended, and after how many seconds."""
    started = time.monotonic()
    with pytest.raises(WorkflowFailureError) as caught:
        await temporal.client.execute_workflow(
            "Pipeline", args=args, id=f"bad-{uuid4().hex}", task_queue=queue
        )
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "InvalidInput"
    return cause.message, time.monotonic() - started


@pytest.mark.parametrize(("args", "named"), KINDS)
async def test_known_kinds_of_bad_input(
    temporal: WorkflowEnvironment, queue: str, args: list[Any], named: str
) -> None:
    """Each kind fails within five seconds, and the message names what is wrong."""
    message, took_s = await failure(temporal, queue, args)

    assert named in message
    assert SECRET not in message
    assert took_s < 5


async def test_generated_bad_input(
    temporal: WorkflowEnvironment, queue: str, generated: list[tuple[str, Any]]
) -> None:
    """Over 200 generated inputs: none hangs, each names its field, none is echoed."""
    assert len(generated) >= 200
    for start in range(0, len(generated), 20):
        cases = generated[start : start + 20]
        ended = await asyncio.gather(
            *(failure(temporal, queue, [{**GOOD, name: value}]) for name, value in cases)
        )
        for (name, value), (message, took_s) in zip(cases, ended, strict=True):
            assert f"invalid input: {name}" in message, value
            assert SECRET not in message
            assert took_s < 5
