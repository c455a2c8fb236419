"""One node of a lionagi graph: one call of a Branch's method, whose outcome is kept, however often it is run.

What `Session.flow` does before and after that call in its own process is done here from Postgres: results go
into the context, the conversation so far into the Branch, and what came of it back.
"""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
from lionagi import Branch
from lionagi._errors import LionError  # no public name; the base of what a Branch raises
from lionagi.protocols.messages import AssistantResponse, Instruction
from lionagi.protocols.messages.assistant_response import AssistantResponseContent
from lionagi.protocols.messages.instruction import InstructionContent

from qefleet.contracts.flows import FlowStep, ancestors
from qefleet.contracts.operations import Operation, Said
from qefleet.errors import GraphError, ModelUnusable
from qefleet.graphs.branches import content_of
from qefleet.graphs.context import shown_context
from qefleet.graphs.conversation import conversation_of
from qefleet.graphs.model import GatewayModel
from qefleet.graphs.plain import plain_result
from qefleet.graphs.responses import rebuilt
from qefleet.graphs.store import GraphStore
from qefleet.llm.call import NO_LOG, forget_branches, untouched_logging
from qefleet.llm.tokens import CallIdentity

AGENT = "lionagi"
"""Who makes these calls, in the ledger."""


class GraphOperations:
    """Runs nodes of graphs.

    Args:
        pool: Connections to the database.
        gateway_url: Where the gateway listens.
        secret: Signs the capabilities (`QE_GATEWAY_SECRET`).
        timeout_s: For one model call.
    """

    def __init__(self, *, pool: asyncpg.Pool, gateway_url: str, secret: str, timeout_s: int = 600) -> None:
        self._store = GraphStore(pool)
        self._gateway_url = gateway_url
        self._secret = secret
        self._timeout_s = timeout_s

    async def run(
        self,
        *,
        run_id: UUID,
        workflow_id: str,
        step: str,
        flow: Sequence[FlowStep],
        dependencies: Mapping[str, Any],
        model: str,
    ) -> Any:
        """Do what a node does, or give what it gave before.

        Args:
            run_id: The run: the workflow's first execution.
            workflow_id: For the ledger.
            step: Which of the flow's steps; it has an operation.
            flow: All steps of the flow, as planned.
            dependencies: Results as JSON, by id, of those of its `depends_on` that aren't operations or have
                failed (`{"error": …}`); operations' own results are read from the database.
            model: For nodes without one of their own: `provider/name`, `local` or `none`.

        Returns:
            The result as JSON; a model's fields where the answer was to fit a class.

        Raises:
            GraphError: It can't be run as it is written.
            RunError: The budget is spent, the provider refuses, or no answer can be used.
            ModelUnavailable: The provider or the gateway can't answer now.
            StoreUnavailable: Postgres can't be reached.
        """
        if step in (stored := await self._store.results(run_id, [step])):
            return stored[step]
        node = next(one for one in flow if one.id == step)
        operation = _operation(node)
        if operation.kind == "given":
            return await self._give(run_id, step, operation)
        branch, past = await self._branch(run_id, workflow_id, node, flow, model)
        try:
            parameters = await self._parameters(run_id, node, operation, flow, dependencies)
            result = await _call(branch, operation.kind, parameters, step)
        finally:
            await branch.chat_model.close()
            forget_branches()
        messages = [
            _said(message, step)
            for message in branch.msgs.messages
            if message.id not in past and isinstance(message, Instruction | AssistantResponse)
        ]
        return await self._store.record(
            run_id, step, branch=operation.branch, result=plain_result(result, node=step), messages=messages
        )

    async def _branch(
        self, run: UUID, workflow_id: str, node: FlowStep, flow: Sequence[FlowStep], model: str
    ) -> tuple[Branch, set[UUID]]:
        """A Branch that knows the conversation so far, and the ids of its messages."""
        operation = _operation(node)
        conversation = conversation_of(flow, node.id)
        said = [*conversation.opening, *await self._store.messages(run, conversation.turns)]
        messages = [_message(one) for one in said]
        identity = CallIdentity(
            run_id=run, workflow_id=workflow_id, step=f"{node.id}/{operation.kind}", agent=AGENT
        )
        with untouched_logging():
            chat = GatewayModel(
                gateway_url=self._gateway_url,
                secret=self._secret,
                identity=identity,
                model=operation.model or model,
                settings=operation.settings,
                timeout_s=self._timeout_s,
            )
            branch = Branch(
                system=conversation.system,
                messages=messages,  # pyright: ignore[reportArgumentType] - as Branch.clone gives them
                chat_model=chat,
                log_config=NO_LOG,
            )
        return branch, {message.id for message in messages}

    async def _give(self, run: UUID, step: str, operation: Operation) -> Any:
        given = operation.parameters
        if "result" in given:
            return await self._store.record(
                run, step, branch=operation.branch, result=given["result"], messages=[]
            )
        return await self._store.take_over(
            run, step, branch=operation.branch, from_run=UUID(given["run"]), from_step=given["step"]
        )

    async def _parameters(
        self,
        run: UUID,
        node: FlowStep,
        operation: Operation,
        flow: Sequence[FlowStep],
        dependencies: Mapping[str, Any],
    ) -> dict[str, Any]:
        """What the method is called with: the node's own parameters, and the context that the flow adds."""
        keys = {one.id: (one.operation and one.operation.node) or one.id for one in flow}
        known = {**dependencies, **await self._store.results(run, node.depends_on)}
        results = {keys[name]: known[name] for name in node.depends_on if name in known}
        added = await self._store.contexts(run, ancestors(flow)[node.id])
        parameters = shown_context(
            operation.parameters,
            results=results if node.depends_on else None,
            shared=[operation.context, *added],
        )
        if operation.response:
            parameters["response_format"] = rebuilt(operation.response)
        return parameters


async def _call(branch: Branch, kind: str, parameters: Mapping[str, Any], step: str) -> Any:
    """Call the method; a failed model call is a failure, even where lionagi goes on without its answer."""
    chat = branch.chat_model
    assert isinstance(chat, GatewayModel), "made for this node"
    try:
        result = await getattr(branch, kind)(**parameters)
    except (TypeError, KeyError, AttributeError) as error:
        raise chat.failure or GraphError(step, f"lionagi refuses its parameters: {error}") from error
    except (ValueError, LionError) as error:  # an answer that doesn't fit what was asked for
        raise chat.failure or ModelUnusable(f"{step}: {error}") from error
    if chat.failure is not None:
        raise chat.failure
    if result == "":
        raise ModelUnusable(f"{step}: the answer was empty; `qe calls` shows what came")
    if isinstance(result, dict) and not isinstance(result.get("context", {}), Mapping):
        raise ModelUnusable(f"{step}: the answer's `context` is no object, which the flow's context needs")
    return result


def _operation(node: FlowStep) -> Operation:
    assert node.operation is not None, "only operations are run here"
    return node.operation


def _message(said: Said) -> Instruction | AssistantResponse:
    if said.role == "user":
        return Instruction(content=InstructionContent.from_dict(said.content))  # pyright: ignore[reportCallIssue] - the rest has defaults
    return AssistantResponse(content=AssistantResponseContent.from_dict(said.content))  # pyright: ignore[reportCallIssue] - the rest has defaults


def _said(message: Instruction | AssistantResponse, step: str) -> Said:
    role = "user" if isinstance(message, Instruction) else "assistant"
    return Said(role=role, content=content_of(message, where=step))
