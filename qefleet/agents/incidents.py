"""From an incident to a test that shows it: a model proposes, the sandbox decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from pydantic import AfterValidator, BaseModel

from qefleet.agents.agent import StepContext
from qefleet.agents.prompt import load_prompt
from qefleet.contracts.base import Digest, Model
from qefleet.contracts.measured import Measured, ToolRun
from qefleet.contracts.production import Incident, Reproduction
from qefleet.contracts.steps import Finding, Verdict, WorkItem
from qefleet.llm.question import Question
from qefleet.llm.source_text import python_source
from qefleet.tools.production.incidents import reproduce, source_of

REPRODUCED = "production.reproduced_incidents"
_ANSWER_TOKENS = 600


class ScenarioTest(BaseModel):
    """What a model proposes."""

    test: Annotated[str, AfterValidator(python_source)]
    """Source of a test module."""


class IncidentProgress(Model):
    """The loop's state, an artifact between rounds."""

    finding: Finding
    """What was measured before."""
    incidents: list[Incident]
    reproductions: list[Reproduction] = []


def work_of(incidents: Sequence[Incident]) -> list[WorkItem]:
    """Incidents as the loop's items."""
    return [WorkItem(id=it.id, title=f"{it.exception} in {it.module}.{it.function}") for it in incidents]


async def begin(ctx: StepContext, finding: Finding, incidents: Sequence[Incident]) -> Finding:
    """The finding, with the incidents as work to do."""
    if not incidents:
        return finding
    state = await _save(ctx, IncidentProgress(finding=finding, incidents=list(incidents)))
    return finding.model_copy(update={"work": work_of(incidents), "state": state})


class IncidentScenarios:
    """Rounds of proposing a test for an incident and running it."""

    response = ScenarioTest

    async def question(
        self, ctx: StepContext, item: str, state: Digest, feedback: str | None
    ) -> Question[ScenarioTest]:
        """What a model is asked: the function, and how it failed."""
        incident = _incident(await _load(ctx, state), item)
        prompt = load_prompt("incident-scenario")
        async with ctx.workspace() as workspace:
            source = source_of(workspace.project, incident)
        context = {"source": source, "exception": f"{incident.exception}: {incident.message}"}
        if feedback:
            context["what happened to your last test"] = feedback
        return Question(
            system=prompt.system,
            instruction=prompt.fill(
                exception=incident.exception, function=incident.function, module=incident.module
            ),
            context=context,
            response=ScenarioTest,
            max_output_tokens=_ANSWER_TOKENS,
        )

    async def draft(self, ctx: StepContext, item: str, state: Digest) -> ScenarioTest | None:
        """Tools alone don't know what the function was called with."""
        del ctx, item, state
        return None

    async def try_proposal(
        self, ctx: StepContext, item: str, proposal: ScenarioTest, state: Digest
    ) -> Verdict:
        """Run the test; it counts when it fails as the incident did."""
        progress = await _load(ctx, state)
        incident = _incident(progress, item)
        async with ctx.workspace() as workspace:
            shown, reason, runs = await reproduce(workspace, incident, proposal.test)
        kept = await ctx.artifacts.put(
            proposal.test.encode(), name=f"test_{incident.id}.py", media_type="text/x-python"
        )
        tried = Reproduction(
            incident=incident.id,
            reproduced=shown,
            reason=reason.splitlines()[0],
            runs=runs,
            test=kept.digest,
        )
        others = [it for it in progress.reproductions if it.incident != incident.id]
        feedback = None
        if not shown:
            text = await ctx.artifacts.put(reason.encode(), name="feedback.txt", media_type="text/plain")
            feedback = text.digest
        return Verdict(
            state=await _save(ctx, progress.model_copy(update={"reproductions": [*others, tried]})),
            kept=int(shown),
            rejected={} if shown else {"not_shown": 1},
            feedback=feedback,
            done=shown,
            headline=f"{incident.exception} in {incident.function}: {tried.reason}",
        )

    async def conclude(self, ctx: StepContext, state: Digest, notes: Sequence[str]) -> Finding:
        """What was measured before, with the tests that show an incident."""
        progress = await _load(ctx, state)
        finding, tried = progress.finding, progress.reproductions
        shown = [it for it in tried if it.reproduced]
        verdicts = json.dumps([it.model_dump(mode="json") for it in tried], indent=1).encode()
        kept = await ctx.artifacts.put(verdicts, name="reproductions.json", media_type="application/json")
        tests = [
            await ctx.artifacts.put(
                await ctx.artifacts.get(it.test), name=f"test_{it.incident}.py", media_type="text/x-python"
            )
            for it in shown
        ]
        run = ToolRun(
            tool="qefleet trials (pytest)",
            version=version("qefleet"),
            argv=["reproduce", *(it.incident for it in tried)],
            exit_code=0,
            duration_s=0.0,
            artifact=kept,
        )
        measured = finding.measurement
        tools = [*measured.tools, run]
        number = Measured(value=len(shown), unit="incidents", tool=len(tools) - 1)
        details = measured.details | {"reproductions": [it.model_dump(mode="json") for it in tried]}
        return finding.model_copy(
            update={
                "measurement": measured.model_copy(
                    update={
                        "metrics": measured.metrics | {REPRODUCED: number},
                        "tools": tools,
                        "details": details,
                    }
                ),
                "headline": f"{finding.headline}, {len(shown)} of {len(progress.incidents)} incidents shown "
                "again by a test",
                "artifacts": [*finding.artifacts, kept, *tests],
                "notes": [*finding.notes, *notes],
            }
        )


def _incident(progress: IncidentProgress, item: str) -> Incident:
    return next(incident for incident in progress.incidents if incident.id == item)


async def _load(ctx: StepContext, state: Digest) -> IncidentProgress:
    return IncidentProgress.model_validate_json(await ctx.artifacts.get(state))


async def _save(ctx: StepContext, progress: IncidentProgress) -> Digest:
    content = progress.model_dump_json().encode()
    kept = await ctx.artifacts.put(content, name="incidents.json", media_type="application/json")
    return kept.digest
