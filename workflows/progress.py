"""A run's progress, as the `progress` query, the UI's current details and the search attributes show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from qefleet.contracts import attributes
from qefleet.contracts.control import Asked
from qefleet.contracts.progress import Progress, StepProgress
from qefleet.contracts.runs import AgentResult, Decision, Usage
from qefleet.contracts.steps import Plan, StepPlan

_MARKS = {
    "waiting": "·",
    "running": "▶",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "■",
    "skipped": "○",
}


_SHOWN_STEPS = 100


def _question(asked: Asked) -> str:
    """A person finds here what to do, without our docs."""
    question = f" {asked.question}" if asked.question else ""
    return (
        f"**{asked.step} waits for a person.**{question} Answer by update `approve` or `reject` with"
        f' `{{"by": "you", "why": "…"}}` until {asked.until:%Y-%m-%d %H:%M} UTC; then it is'
        f" {asked.on_timeout}.\n"
    )


def _index(*updates: SearchAttributeUpdate[Any]) -> None:
    workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType] - its own generic is bare


class StepView(Protocol):
    """Where a step shows how far it is."""

    def start(self, step: str) -> None:
        """It has begun."""
        ...

    def say(self, step: str, headline: str) -> None:
        """What it is doing, or its figure so far."""
        ...

    def spend(self, step: str, usage: Usage) -> None:
        """What its model calls cost so far."""
        ...

    def end(self, result: AgentResult) -> None:
        """It has ended, in one way or the other."""
        ...


class Board:
    """Keeps the table of agents current wherever people look at it."""

    def __init__(self) -> None:
        self._target = ""
        self._phase = "opening"
        self._model: str | None = None
        self._decision: Decision | None = None
        self._steps: dict[str, StepProgress] = {}
        self._notes: list[str] = []
        self._asked: dict[str, Asked] = {}
        self._paused = False

    def snapshot(self) -> Progress:
        """The answer to the `progress` query."""
        return Progress(
            phase=self._phase,
            target=self._target,
            model=self._model,
            decision=self._decision,
            paused=self._paused,
            asked=list(self._asked.values()),
            steps=list(self._steps.values()),
            notes=self._notes,
        )

    def plan(self, plan: Plan) -> None:
        """Show all steps as waiting."""
        self._target = plan.target
        self._model = plan.model
        self._notes = list(plan.notes)
        self.add(plan.steps)
        _index(attributes.TARGET.value_set(plan.target))
        self._show()

    def add(self, steps: Sequence[StepPlan]) -> None:
        """Show more steps as waiting."""
        self._steps |= {s.step: StepProgress(step=s.step, agent=s.agent, status="waiting") for s in steps}

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

    def note(self, text: str) -> None:
        """Show a line below the table."""
        self._notes.append(text)
        self._show()

    def ask(self, asked: Asked) -> None:
        """A person is asked."""
        self._asked[asked.step] = asked
        self._show()

    def answered(self, step: str) -> None:
        """Nobody is asked about this step any more."""
        self._asked.pop(step, None)
        self._show()

    def pause(self, paused: bool) -> None:
        """Whether the run is paused."""
        self._paused = paused
        self._show()

    def skip(self, steps: Sequence[str]) -> None:
        """These steps will not be run."""
        for step in steps:
            self._change(step, status="skipped")
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
        paused = " · **paused**" if self._paused else ""
        lines = [
            f"**{self._target}** · {self._phase}{decision}{paused} · model `{self._model or '…'}`",
            "",
            *(_question(asked) for asked in self._asked.values()),
            "| | agent | result | calls | cost |",
            "|---|---|---|---:|---:|",
        ]
        for line in list(self._steps.values())[:_SHOWN_STEPS]:
            cost = "unknown" if line.cost_usd is None else f"${line.cost_usd:.4f}"
            text = line.headline.replace("|", "\\|") or line.status
            # The UI draws tables without padding.
            cells = (_MARKS[line.status], line.agent, text, line.calls, cost)
            lines.append("|" + "|".join(f"\u00a0{cell}\u00a0" for cell in cells) + "|")
        lines += [f"- {note}" for note in self._notes]
        if len(self._steps) > _SHOWN_STEPS:
            lines.append(f"- and {len(self._steps) - _SHOWN_STEPS} more steps; see the query `progress`")
        return "\n".join(lines)
