"""Expansions, as a pattern has them done: write the list down, run agents on each item, sum up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

from qefleet.contracts.children import ExpansionInput
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.ports import AgentPort, RunPort
from qefleet.contracts.runs import AgentResult, StepError
from qefleet.contracts.steps import StepPlan, StoreItems, SumUp
from workflows.run import Run, or_fail
from workflows.scope import MEASURING, RECORDING


async def write_list(
    run: Run, source: str, *, items: Sequence[Item] | None = None, files: str | None = None
) -> ItemList:
    """Write down a list that stood in the input, or that a glob gives."""
    request = StoreItems(
        **run.ref.model_dump(), source=source, items=list(items) if items else None, files=files
    )
    return await or_fail(run.scope.call(RunPort.store_items, request, MEASURING, f"list {source}"))


async def on_each(
    run: Run,
    steps: Sequence[StepPlan],
    items: ItemList,
    *,
    max_concurrent: int,
    max_items: int,
    earlier: Sequence[str] | None = None,
) -> None:
    """Run agents one after the other on each item of a list, many items at once.

    A child workflow does it, with a history of its own. The results, one a step, are summed up from what
    was recorded, so that they are there when the child was stopped half-way too.

    Args:
        run: The run.
        steps: What is run on each item.
        items: The list.
        max_concurrent: Items in work at once.
        max_items: Where a longer list is cut.
        earlier: Steps whose results and patches all items build on; all that have ended without it.
    """
    await run.control.may_go_on()
    for step in steps:
        if refused := await run.approvals.refused(step):
            run.note(refused, step)
            return
    bounded = items.model_copy(update={"count": min(items.count, max_items)})
    for step in steps:
        run.board.start(step.step)
    started = workflow.now()
    before = run.ended_steps() if earlier is None else list(earlier)
    error = await _expand(run, steps, bounded, max_concurrent, before)
    summed: list[tuple[AgentResult, StepPlan]] = []
    for step in steps:
        request = SumUp(
            **run.ref.model_dump(),
            step=step.step,
            items=bounded,
            cut=items.count - bounded.count,
            duration_s=(workflow.now() - started).total_seconds(),
            error=error,
        )
        sum_up = run.scope.call(AgentPort.sum_up, request, RECORDING, f"{step.title}: sum up")
        summed.append(((await asyncio.shield(sum_up)).result, step))
        run.board.end(summed[-1][0])
    for result, step in summed:
        run.note(result, step)


async def _expand(
    run: Run, steps: Sequence[StepPlan], items: ItemList, max_concurrent: int, earlier: list[str]
) -> StepError | None:
    """Have a child workflow do it; why it was stopped, if it was."""
    name = steps[0].step
    child = await workflow.start_child_workflow(
        "Expansion",
        ExpansionInput(
            ref=run.ref,
            plan=run.plan.model_copy(update={"steps": [], "flow": []}),
            steps=list(steps),
            items=items,
            earlier=earlier,
            max_concurrent=max_concurrent,
            paused=run.control.paused,
        ),
        id=f"{run.ref.workflow_id}/{name}",
        static_summary=f"{', '.join(step.title for step in steps)} on {items.count} items",
        priority=run.scope.priority,
    )
    try:
        return await run.control.through_child(name, child)
    except ChildWorkflowError as failure:
        return StepError(type="ExpansionFailed", message=str(failure.cause or failure))
