"""Our errors as Temporal's: what is retried, when, and what the reader is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.edge import implements, translated
from qefleet import errors
from qefleet.contracts.ports import RunPort
from qefleet.contracts.runs import CommonInput
from qefleet.contracts.steps import OpenRun, Plan


@pytest.mark.parametrize(
    ("error", "kind", "final", "delay_s"),
    [
        (errors.InvalidInput("agents.0", "no such agent"), "InvalidInput", True, None),
        (errors.TargetError("gone"), "TargetError", True, None),
        (errors.BudgetExceeded("spent"), "BudgetExceeded", True, None),
        (errors.ModelUnavailable("busy", retry_after_s=7), "ModelUnavailable", False, 7),
        (errors.StoreUnavailable("away"), "StoreUnavailable", False, None),
    ],
)
def test_errors_become_typed(error: errors.QeError, kind: str, final: bool, delay_s: int | None) -> None:
    """Each family ends as it should: final, retried, or retried after the time that was asked for."""
    seen = translated(error)

    assert (seen.type, seen.non_retryable) == (kind, final)
    assert seen.next_retry_delay == (timedelta(seconds=delay_s) if delay_s else None)


def test_invalid_input_names_its_field() -> None:
    """The first words are the ones that the reference promises."""
    assert translated(errors.InvalidInput("model", "unknown")).message == "invalid input: model: unknown"


OPEN = OpenRun(
    run="r", workflow_id="w", pattern="Pipeline", input=CommonInput.model_validate({"target": "pypi:x==1"})
)


class Buggy(RunPort):
    @implements(RunPort.open_run)
    async def open_run(self, request: OpenRun) -> Plan:
        raise KeyError(request)


async def test_bug_is_tried_again_and_then_given_up() -> None:
    """An error that nobody foresaw is retried a few times, not for ever."""
    environment = ActivityEnvironment()
    with pytest.raises(KeyError):
        await environment.run(Buggy().open_run, OPEN)

    environment.info = replace(ActivityEnvironment.default_info(), attempt=5)
    with pytest.raises(ApplicationError) as caught:
        await environment.run(Buggy().open_run, OPEN)
    assert (caught.value.type, caught.value.non_retryable) == ("KeyError", True)
