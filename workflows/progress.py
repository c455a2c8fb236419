"""A run's progress, as the `progress` query, the UI's current details and the search attributes show it."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from qefleet.contracts import attributes
from qefleet.contracts.progress import Progress, StepProgress
from qefleet.contracts.runs import AgentResult, Decision, Usage
from qefleet.contracts.steps import Plan

_MARKS = {"waiting": "·", "running": "▶", "completed": "✓", "failed": "✗", "skipped": "○"}


def _index(*updates: SearchAttributeUpdate[Any]) -> None:
    workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType] - its own generic is bare


class Board:
    """Keeps the table of agents current wherever people look at it."""

    def __init__(self) -> None:
        self._target = ""
        self._phase = "opening"
        self._model: str | None = None
        self._decision: Decision | None = None
        self._steps: dict[str, StepProgress] = {}
        self._notes: list[str] = []

    def snapshot(self) -> Progress:
        """The answer to the `progress` query."""
        return Progress(
            phase=self._phase,
            target=self._target,
            model=self._model,
            decision=self._decision,
            steps=list(self._steps.values()),
            notes=self._notes,
        )

    def plan(self, plan: Plan) -> None:
        """Show all steps as waiting."""
        self._target = plan.target
        self._model = plan.model
        self._notes = list(plan.notes)
        self._steps = {s.step: StepProgress(step=s.step, agent=s.agent, status="waiting") for s in plan.steps}
        _index(attributes.TARGET.value_set(plan.target))
        self._show()

    def enter(self, phase: str) -> None:
        """Name what the run does now, also for `temporal workflow list`."""
        self._phase = phase
        _index(attributes.PHASE.value_set(phase))
        self._show()

    def start(self, step: str) -> None:
        """A step has begun."""
        self._change(step, status="running", started_at=workflow.now())
        self.enter(self._steps[step].agent)

    def say(self, step: str, headline: str) -> None:
        """Show what a step is doing, or its figure so far."""
        self._change(step, headline=headline)
        self._show()

    def spend(self, step: str, usage: Usage) -> None:
        """Show what a step's model calls cost so far."""
        self._change(step, calls=usage.calls, cost_usd=usage.cost_usd)
        self._show()

    def end(self, result: AgentResult) -> None:
        """A step has ended, in one way or the other."""
        self._change(
            result.step,
            status=result.status,
            headline=result.headline,
            calls=result.usage.calls,
            cost_usd=result.usage.cost_usd,
            ended_at=workflow.now(),
        )
        self._show()

    def skip_rest(self) -> None:
        """What is still waiting will not be run."""
        for step, line in self._steps.items():
            if line.status == "waiting":
                self._change(step, status="skipped")
        self._show()

    def close(self, decision: Decision | None, usage: Usage) -> None:
        """The run is done."""
        self._decision = decision
        self._phase = "done"
        updates: list[SearchAttributeUpdate[Any]] = [
            attributes.PHASE.value_set("done"),
            attributes.COST_USD.value_set(usage.cost_usd or 0.0),
        ]
        if decision:
            updates.append(attributes.DECISION.value_set(decision.value))
        _index(*updates)
        self._show()

    def _change(self, step: str, **changes: object) -> None:
        self._steps[step] = self._steps[step].model_copy(update=changes)

    def _show(self) -> None:
        workflow.set_current_details(self._markdown())

    def _markdown(self) -> str:
        decision = f" · **{self._decision.value}**" if self._decision else ""
        lines = [
            f"**{self._target}** · {self._phase}{decision} · model `{self._model or '…'}`",
            "",
            "| | agent | result | calls | cost |",
            "|---|---|---|---:|---:|",
        ]
        for line in self._steps.values():
            cost = "unknown" if line.cost_usd is None else f"${line.cost_usd:.4f}"
            text = line.headline.replace("|", "\\|") or line.status
            # The UI draws tables without padding.
            cells = (_MARKS[line.status], line.agent, text, line.calls, cost)
            lines.append("|" + "|".join(f"\u00a0{cell}\u00a0" for cell in cells) + "|")
        lines += [f"- {note}" for note in self._notes]
        return "\n".join(lines)
