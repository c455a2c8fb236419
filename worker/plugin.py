"""The Temporal plug-in: how values cross the wire, how bad input fails, what the sandbox lets through.

Attach it to a client; a worker of that client inherits it. A `Replayer` takes it too.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from qefleet.contracts.children import ChildInput
from qefleet.contracts.runs import RunOptions
from workflows.unknown import Unknown

# Passed through the workflow sandbox instead of being loaded anew for every run: they hold no state and
# touch nothing, and loading the contracts' Pydantic models a hundred times a second costs more than the runs.
_PASSED_THROUGH = ("pydantic", "pydantic_core", "annotated_types", "qefleet.contracts")


def qe_plugin() -> SimplePlugin:
    """The plug-in that every client, worker and replayer of the fleet uses."""
    return SimplePlugin(
        "qefleet.QePlugin",
        data_converter=dataclasses.replace(
            pydantic_data_converter, payload_converter_class=QePayloadConverter
        ),
        interceptors=[_InputInterceptor()],
        workflow_runner=_pass_through,
    )


class QePayloadConverter(PydanticPayloadConverter):
    """Pydantic's converter, except that a run's input that doesn't validate fails the workflow.

    With the stock converter the workflow *task* fails instead, and is tried again for ever.
    """

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """Decode, naming the field that is wrong and never echoing its value.

        Raises:
            ApplicationError: Of type `InvalidInput`, not retryable, where a run's input is expected.
        """
        hint = type_hints[0] if type_hints else None
        if not (inspect.isclass(hint) and issubclass(hint, (RunOptions, ChildInput))):
            return super().from_payloads(payloads, type_hints)
        try:
            return super().from_payloads(payloads, type_hints)
        except ValidationError as error:
            raise invalid_input(describe(error)) from None
        except (RuntimeError, ValueError, KeyError):
            # What the converter raises for an encoding that it doesn't know, or JSON that isn't; its
            # message may quote the payload, so it goes no further.
            raise invalid_input("not a JSON object or string") from None


def invalid_input(reason: str) -> ApplicationError:
    """The error with which bad input ends a workflow."""
    return ApplicationError(f"invalid input: {reason}", type="InvalidInput", non_retryable=True)


def describe(error: ValidationError) -> str:
    """All that is wrong, by field, without the values: they may be secrets."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    lines = [_problem(".".join(map(str, p["loc"])), p["msg"]) for p in problems[:10]]
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} more")
    return "; ".join(lines)


def _problem(path: str, message: str) -> str:
    own = message.removeprefix("Value error, ")
    if not path and own != message:
        return own  # a check of the whole input names the field itself
    return f"{path or 'input'}: {own}"


class _InputInterceptor(Interceptor):
    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - the signature is temporalio's
    ) -> type[WorkflowInboundInterceptor] | None:
        return _CheckInput


class _CheckInput(WorkflowInboundInterceptor):
    """Refuses a run that was started without its one argument."""

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - the name in temporalio
        # By name: the sandbox loads a class of its own.
        if input.type.__name__ != Unknown.__name__ and not (
            len(input.args) == 1 and isinstance(input.args[0], (RunOptions, ChildInput))
        ):
            raise invalid_input("expected one JSON object or string, such as '\"pypi:boltons==26.2.0\"'")
        return await super().execute_workflow(input)


def _pass_through(existing: WorkflowRunner | None) -> WorkflowRunner:
    if isinstance(existing, SandboxedWorkflowRunner):
        restrictions = existing.restrictions.with_passthrough_modules(*_PASSED_THROUGH)
        return dataclasses.replace(existing, restrictions=restrictions)
    return existing or SandboxedWorkflowRunner()
