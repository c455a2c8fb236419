"""A commander's plan while it is carried out: each task a child workflow, commanders below commanders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

from qefleet.contracts.children import Bounds, TaskInput, TaskOutcome
from qefleet.contracts.commands import AgentHistory, Command, Task
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.ports import RunPort
from qefleet.contracts.runs import AgentResult, AgentSpec
from qefleet.contracts.steps import AddSteps, StepPlan
from workflows.expansion import Details, Part
from workflows.run import or_fail, together
from workflows.scope import RECORDING, Scope
from workflows.steps import run_agent


class Report(Protocol):
    """Who hears what becomes of a plan."""

    def planned(self, steps: Sequence[StepPlan]) -> None:
        """These steps will be run."""
        ...

    def began(self, step: str) -> None:
        """A step has begun."""
        ...

    def ended(self, result: AgentResult) -> None:
        """A step has ended, in one way or the other."""
        ...


class Division:
    """One commander and those that it commands.

    Args:
        scope: The run.
        commander: The commander's own step.
        bounds: How far it may go.
        name: Begins the names of its tasks.
        report: Who hears what becomes of them.
    """

    def __init__(
        self, scope: Scope, commander: StepPlan, bounds: Bounds, *, name: str, report: Report
    ) -> None:
        self._scope = scope
        self._commander = commander
        self._bounds = bounds
        self._name = name
        self._report = report
        self._room = asyncio.Semaphore(bounds.max_concurrent)

    async def carry_out(self, command: Command, earlier: Sequence[str]) -> None:
        """Run all tasks of a plan, each once those that it depends on have ended."""
        request = AddSteps(
            **self._scope.ref.model_dump(),
            steps=[self._spec(number, task) for number, task in enumerate(command.tasks, start=1)],
        )
        added = await or_fail(
            self._scope.call(
                RunPort.add_steps, request, RECORDING, f"{self._commander.title}: plan the tasks"
            )
        )
        self._report.planned(added.steps)
        ended = {task.id: asyncio.Event() for task in command.tasks}
        gave: dict[str, list[str]] = {}

        async def one(task: Task, step: StepPlan) -> None:
            for name in task.depends_on:
                await ended[name].wait()
            before = [name for other in task.depends_on for name in gave[other]]
            try:
                async with self._room:
                    await self._scope.control.may_go_on()
                    gave[task.id] = [*before, *await self._in_child(task, step, [*earlier, *before])]
            finally:
                ended[task.id].set()

        await together([one(task, step) for task, step in zip(command.tasks, added.steps, strict=True)])

    def _spec(self, number: int, task: Task) -> StepSpec:
        options = task.options
        if task.agent is None:
            options = self._commander.options | {
                "request": task.request,
                "depth_left": self._bounds.depth_left - 1,
                "max_tasks": self._bounds.max_tasks,
            }
        agent = task.agent or self._commander.agent
        return StepSpec(
            step=f"{self._name}-{number}.{agent}",
            spec=AgentSpec(agent=agent, options=options, on_failure="continue"),
            field=f"tasks.{number - 1}",
        )

    async def _in_child(self, task: Task, step: StepPlan, earlier: list[str]) -> list[str]:
        """Run a task; names of the steps that came of it."""
        scope, bounds = self._scope, self._bounds
        below = bounds.model_copy(update={"depth_left": bounds.depth_left - 1})
        self._report.began(step.step)
        child = await workflow.start_child_workflow(
            "Task",
            TaskInput(
                ref=scope.ref,
                plan=scope.plan.model_copy(update={"steps": [], "flow": []}),
                earlier=earlier,
                paused=scope.control.paused,
                step=step,
                bounds=below if task.request else None,
            ),
            id=f"{scope.ref.workflow_id}/{step.step}",
            result_type=TaskOutcome,
            static_summary=task.goal or task.request or step.title,
            priority=scope.priority,
        )
        try:
            stopped = await scope.control.through_child(step.step, child)
            if stopped:
                return []
            outcome = await child
        except ChildWorkflowError as failure:
            result = AgentResult(
                step=step.step, agent=step.agent, status="failed", headline=str(failure.cause or failure)
            )
            outcome = TaskOutcome(steps=[], results=[result])
        own, *below = outcome.results
        self._report.ended(own)
        self._report.planned(outcome.steps)
        for result in below:
            self._report.ended(result)
        return [result.step for result in outcome.results]


def command_of(result: AgentResult) -> Command:
    """The plan in a commander's result: the model's, or the standard one where no model was asked."""
    return Command.model_validate(result.judged or result.measured.details["standard_plan"])


def history_of(result: AgentResult) -> list[AgentHistory]:
    """What agents took before, as the commander found."""
    return [AgentHistory.model_validate(entry) for entry in result.measured.details.get("history", [])]


@dataclass
class _Upward:
    """Collects what a commander's tasks give, for the commander above it."""

    steps: list[StepPlan]
    results: list[AgentResult]

    def planned(self, steps: Sequence[StepPlan]) -> None:
        self.steps += steps

    def began(self, step: str) -> None:
        workflow.set_current_details(f"**{step}** has begun")

    def ended(self, result: AgentResult) -> None:
        self.results.append(result)
        workflow.set_current_details(f"**{result.step}** {result.status}: {result.headline}")


@workflow.defn(name="Task")
class TaskWorkflow(Part):
    """Runs one task of a commander's plan; a commander's task commands in its turn, and reports upward."""

    @workflow.run
    async def run(self, input: TaskInput) -> TaskOutcome:  # noqa: A002 - the name that users see in the UI
        """Run the agent; where it is a commander, carry out its plan too."""
        self._control.paused = input.paused
        scope = Scope(ref=input.ref, plan=input.plan, control=self._control)
        result = await run_agent(scope, input.step, input.earlier, Details())
        if self._control.cancelled:
            raise asyncio.CancelledError
        if input.bounds is None or result.status != "completed":
            return TaskOutcome(steps=[], results=[result])
        name = input.step.step.partition(".")[0]
        below = _Upward([], [result])
        division = Division(scope, input.step, input.bounds, name=name, report=below)
        await division.carry_out(command_of(result), [*input.earlier, result.step])
        return TaskOutcome(steps=below.steps, results=below.results)
