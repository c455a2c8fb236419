"""`run_graph`: a lionagi graph, run by the fleet in place of `Session.flow`."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from lionagi import Session
from lionagi.operations.node import Operation as Node
from lionagi.protocols.generic.event import EventStatus
from lionagi.protocols.graph.graph import Graph
from pydantic import BaseModel
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from qefleet.contracts.flows import FlowInput
from qefleet.contracts.runs import TASK_QUEUE, RunResult
from qefleet.errors import GraphError
from qefleet.graphs.convert import RUN_KEY, STEP_KEY, OnFailure, to_flow

_DIGEST = "QeGraph"
"""Memo: what the workflow was started with, ids of nodes aside."""
_PAUSE_S = 1.0


async def run_graph(
    client: Client,
    graph: Graph[Any],
    *,
    workflow_id: str,
    session: Session | None = None,
    model: str | None = None,
    context: Mapping[str, Any] | None = None,
    max_concurrent: int = 5,
    budget_usd: float | None = None,
    on_failure: OnFailure = "stop",
    task_queue: str = TASK_QUEUE,
) -> dict[Any, Any]:
    """Run a graph durably, and wait for its results, over restarts of everything.

    Called again with the same workflow id and the same graph, built anew or not, it goes on waiting for the
    run that there is, or gives its results. The nodes are marked as run, as `Session.flow` marks them: after
    `expand_from_result` the same graph, run under another id, takes over what was run before.

    Args:
        client: Any client; it needs no plug-in.
        graph: As `Builder.get_graph()` gives it.
        workflow_id: Of the workflow; the graph's name in the Temporal UI.
        session: See `to_flow`, and so for the rest.
        model: `provider/name` or `local`.
        context: Shown to every node.
        max_concurrent: Nodes in work at once.
        budget_usd: The most that the run may spend.
        on_failure: Whether a node's failure ends the run.
        task_queue: Where the fleet's workers listen.

    Returns:
        Results by node id, as under `Session.flow`'s `operation_results`: text, JSON, or an instance of the
        class that was given as `response_format`.

    Raises:
        GraphError: The graph has something in it that has no durable meaning, or the workflow id is that of
            another graph.
        temporalio.client.WorkflowFailureError: The run failed; its cause names the step.
    """
    flow = to_flow(
        graph,
        session=session,
        model=model,
        context=context,
        max_concurrent=max_concurrent,
        budget_usd=budget_usd,
        on_failure=on_failure,
    )
    handle = await _started(client, flow, workflow_id, task_queue)
    result = RunResult.model_validate(await _result(handle))
    run_id = await _first_run(handle)
    given = {step.step: step for step in result.steps}
    results: dict[Any, Any] = {}
    for step in flow.steps or []:
        assert step.operation is not None, "a graph's steps are operations"
        node = cast("Node", graph.internal_nodes[UUID(step.operation.node)])
        if node.execution.status == EventStatus.COMPLETED:
            results[node.id] = node.response
            continue
        found = given[step.id]
        if found.status == "completed":
            results[node.id] = _revived(node, (found.judged or {}).get("result"))
            node.execution.status = EventStatus.COMPLETED
            node.execution.response = results[node.id]
            node.metadata.update({RUN_KEY: run_id, STEP_KEY: step.id})
        elif found.error:
            results[node.id] = {"error": found.error.message}
    return results


def digest_of(flow: FlowInput) -> str:
    """Of all that the run hangs on; the ids of nodes are new whenever a graph is built."""
    told = flow.model_dump(mode="json", exclude_defaults=True)
    for step in told["steps"]:
        del step["operation"]["node"]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


async def _started(
    client: Client, flow: FlowInput, workflow_id: str, task_queue: str
) -> WorkflowHandle[Any, Any]:
    digest = digest_of(flow)
    try:
        return await client.start_workflow(
            "Flow",
            # As plain JSON, which any data converter takes.
            flow.model_dump(mode="json", exclude_defaults=True),
            id=workflow_id,
            task_queue=task_queue,
            memo={_DIGEST: digest},
            static_summary=f"a lionagi graph of {len(flow.steps or [])} nodes",
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
    except WorkflowAlreadyStartedError:
        handle = client.get_workflow_handle(workflow_id)
        memo = await (await handle.describe()).memo()
        if memo.get(_DIGEST) != digest:
            raise GraphError(
                "graph", f"workflow {workflow_id} runs another graph or the like: use another workflow_id"
            ) from None
        return handle


async def _result(handle: WorkflowHandle[Any, Any]) -> Any:
    while True:
        try:
            return await handle.result()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise
            await asyncio.sleep(_PAUSE_S)  # the server restarts


async def _first_run(handle: WorkflowHandle[Any, Any]) -> str:
    """The first execution's run id, under which a run's rows are kept."""
    described = await handle.describe()
    return described.raw_description.workflow_execution_info.first_run_id or described.run_id


def _revived(node: Node, result: Any) -> Any:
    """A model's fields as the class that the node was given; with `reason` it has more than the class."""
    response = node.request.get("response_format")
    if (
        isinstance(response, type)
        and issubclass(response, BaseModel)
        and isinstance(result, dict)
        and not node.request.get("reason")
    ):
        return response.model_validate(result)
    return result
