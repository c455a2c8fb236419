"""The child workflows of an expansion: many items at once, with histories that stay bounded."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

from qefleet.contracts.children import ExpansionInput, ExpansionOutcome, ItemInput, ItemOutcome
from qefleet.contracts.control import ExpansionProgress
from qefleet.contracts.ports import RunPort
from qefleet.contracts.runs import AgentResult, Usage
from qefleet.contracts.steps import PageOfItems
from workflows.control import Control
from workflows.scope import RECORDING, Scope
from workflows.steps import run_agent

_PAGE = 200
"""Items whose names are looked up at once."""
_TOLD = 50
"""How often an expansion tells its parent how far it is, at most."""


class Part:
    """Base of the fleet's child workflows: a part of a run, which hears what people tell the run."""

    def __init__(self) -> None:
        self._control = Control()

    @workflow.signal(description="Begin nothing more until `resume`.")
    async def pause(self) -> None:
        """Hold everything back that hasn't begun."""
        await self._control.set_paused(True)

    @workflow.signal(description="Go on after `pause`.")
    async def resume(self) -> None:
        """Go on."""
        await self._control.set_paused(False)


@workflow.defn(name="Expansion")
class Expansion(Part):
    """Runs agents on each item of a list, in a sliding window; continues as new before its history grows.

    One agent that proposes nothing is run right here. Several, or one with a loop, take a child workflow
    an item, whose history is its own.
    """

    @workflow.run
    async def run(self, input: ExpansionInput) -> ExpansionOutcome:  # noqa: A002 - the name that users see in the UI
        """Begin items in order, `max_concurrent` at once, until all have ended."""
        self._control.paused = input.paused
        window = _Window(input, Scope(ref=input.ref, plan=input.plan, control=self._control))
        try:
            for ordinal in range(input.first, input.items.count):
                await self._control.may_go_on()
                await window.room()
                if workflow.info().is_continue_as_new_suggested():
                    await window.drain()
                    await workflow.wait_condition(workflow.all_handlers_finished)
                    workflow.continue_as_new(
                        input.model_copy(
                            update={
                                "first": ordinal,
                                "completed": window.completed,
                                "failed": window.failed,
                                "paused": self._control.paused,
                            }
                        )
                    )
                await window.begin(ordinal)
            await window.drain()
        except asyncio.CancelledError:
            await window.stop()
            raise
        return ExpansionOutcome(completed=window.completed, failed=window.failed)


class _Window:
    """Items in work, at most so many."""

    def __init__(self, expansion: ExpansionInput, scope: Scope) -> None:
        self.completed = expansion.completed
        self.failed = expansion.failed
        self._input = expansion
        self._scope = scope
        self._working: dict[int, asyncio.Task[None]] = {}
        self._names: dict[int, str] = {}
        self._inline = len(expansion.steps) == 1 and not expansion.steps[0].looped
        self._parent = workflow.info().parent
        self._show()

    async def room(self) -> None:
        """Wait until another item can be begun."""
        await workflow.wait_condition(lambda: len(self._working) < self._input.max_concurrent)

    async def drain(self) -> None:
        """Wait until all items in work have ended."""
        await workflow.wait_condition(lambda: not self._working)

    async def stop(self) -> None:
        """Stop all items in work, and wait until each has written down what it had."""
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, ordinal: int) -> None:
        """Begin an item."""
        if ordinal not in self._names:
            await self._look_up(ordinal)
        self._working[ordinal] = asyncio.create_task(self._work(ordinal, self._names.pop(ordinal)))

    async def _look_up(self, first: int) -> None:
        request = PageOfItems(
            **self._input.ref.model_dump(), source=self._input.items.source, first=first, count=_PAGE
        )
        page = await self._scope.call(
            RunPort.page_of_items, request, RECORDING, f"items {first} to {first + _PAGE - 1}"
        )
        self._names = dict(enumerate(page.names, start=first))

    async def _work(self, ordinal: int, name: str) -> None:
        try:
            completed = await (self._here(ordinal, name) if self._inline else self._in_child(ordinal, name))
        finally:
            del self._working[ordinal]
        self.completed += completed
        self.failed += not completed
        await self._tell()

    async def _here(self, ordinal: int, name: str) -> bool:
        result = await run_agent(
            self._scope,
            self._input.steps[0],
            self._input.earlier,
            Unseen(),
            items=self._input.items.source,
            ordinal=ordinal,
            name=name,
        )
        return result.status == "completed"

    async def _in_child(self, ordinal: int, name: str) -> bool:
        child = await workflow.start_child_workflow(
            "Item",
            ItemInput(
                **self._input.model_dump(include={"ref", "plan", "earlier", "steps"}),
                paused=self._scope.control.paused,
                source=self._input.items.source,
                ordinal=ordinal,
                name=name,
            ),
            id=f"{workflow.info().workflow_id}/{ordinal}",
            result_type=ItemOutcome,
            static_summary=name,
            priority=self._scope.priority,
        )
        try:
            stopped = await self._scope.control.through_child(str(ordinal), child)
        except ChildWorkflowError:
            return False
        return stopped is None and (await child).completed

    async def _tell(self) -> None:
        """Show how far it is here, and from time to time to the parent."""
        done = self.completed + self.failed
        self._show()
        if self._parent and done % max(1, self._input.items.count // _TOLD) == 0:
            handle = workflow.get_external_workflow_handle(
                self._parent.workflow_id, run_id=self._parent.run_id
            )
            steps = [step.step for step in self._input.steps]
            await handle.signal(
                "expansion_progress", ExpansionProgress(steps=steps, headline=self._headline())
            )

    def _headline(self) -> str:
        done = self.completed + self.failed
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{done} of {self._input.items.count} items{failed}"

    def _show(self) -> None:
        agents = " → ".join(step.title for step in self._input.steps)
        workflow.set_current_details(f"**{agents}**: {self._headline()}")


class Unseen:
    """For steps that nobody watches one by one."""

    def start(self, step: str) -> None:
        """It has begun."""

    def say(self, step: str, headline: str) -> None:
        """What it is doing."""

    def spend(self, step: str, usage: Usage) -> None:
        """What its model calls cost so far."""

    def end(self, result: AgentResult) -> None:
        """It has ended."""


@workflow.defn(name="Item")
class ItemWorkflow(Part):
    """Runs agents one after the other on one item, each seeing what those before it made of it."""

    @workflow.run
    async def run(self, input: ItemInput) -> ItemOutcome:  # noqa: A002 - the name that users see in the UI
        """Run each agent until one that may not fail fails."""
        self._control.paused = input.paused
        scope = Scope(ref=input.ref, plan=input.plan, control=self._control)
        earlier = list(input.earlier)
        for step in input.steps:
            result = await run_agent(
                scope, step, earlier, Details(), items=input.source, ordinal=input.ordinal, name=input.name
            )
            if self._control.cancelled:
                raise asyncio.CancelledError
            if result.status != "completed" and step.on_failure == "stop":
                return ItemOutcome(completed=False)
            earlier.append(result.step)
        return ItemOutcome(completed=True)


class Details(Unseen):
    """Shows the latest line as the workflow's current details."""

    def say(self, step: str, headline: str) -> None:
        """What it is doing."""
        workflow.set_current_details(f"**{step}**: {headline}")

    def end(self, result: AgentResult) -> None:
        """It has ended."""
        workflow.set_current_details(f"**{result.step}** {result.status}: {result.headline}")
