"""Rounds of mending flaky tests: a model proposes a new source, and it is run until chance is ruled out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from qefleet.agents.agent import StepContext
from qefleet.agents.prompt import load_prompt
from qefleet.contracts.base import Digest, Model
from qefleet.contracts.flaky import FlakyDetails, FlakyTest, Kind, Mend
from qefleet.contracts.measured import Measured, ToolRun
from qefleet.contracts.steps import Finding, Verdict, WorkItem
from qefleet.llm.question import Question
from qefleet.llm.source_text import python_source
from qefleet.tools.flakiness.flaky import source_of
from qefleet.tools.flakiness.mending import try_mend
from qefleet.workspace.patches import make_patch

_PROMPT = "flaky-test-mending"
_FILE_LINES = 200
_ANSWER_TOKENS = 1500


class TestMend(BaseModel):
    """What a model proposes."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    function: Annotated[str, AfterValidator(python_source)]
    """The whole function as it shall stand in its file, decorators included."""


class MendProgress(Model):
    """The loop's state, an artifact between rounds."""

    found: Finding
    details: FlakyDetails
    files: dict[str, str] = {}
    """Test files with the mends that were kept, by path."""


async def with_work(ctx: StepContext, found: Finding, details: FlakyDetails, *, most: int) -> Finding:
    """A finding with the tests to mend, where it has any."""
    mendable = (Kind.ORDER, Kind.HASH_SEED, Kind.INTERMITTENT)
    tests = sorted(
        (test for test in details.found if test.kind in mendable), key=lambda test: mendable.index(test.kind)
    )[:most]
    if not tests:
        return found
    work = [WorkItem(id=test.node_id, title=test.node_id) for test in tests]
    state = await _save(ctx, MendProgress(found=found, details=details))
    return found.model_copy(update={"work": work, "state": state})


class Mending:
    """Rounds of proposing a mend for one flaky test and trying it."""

    response = TestMend

    async def question(
        self, ctx: StepContext, item: str, state: Digest, feedback: str | None
    ) -> Question[TestMend]:
        """The test with its file, and what its failing depends on."""
        progress = await _load(ctx, state)
        test = _test(progress, item)
        async with ctx.workspace() as workspace:
            text = progress.files.get(test.path) or (workspace.project / test.path).read_text("utf-8")
            context = {
                "the test": source_of(workspace, item),
                "its file": "\n".join(text.split("\n")[:_FILE_LINES]),
                "what it depends on": "\n\n".join(source_of(workspace, name) for name in test.partners[:2]),
                "how it fails": test.message,
            }
        if feedback:
            context["what happened to your last mend"] = feedback
        prompt = load_prompt(_PROMPT)
        return Question(
            system=prompt.system,
            instruction=prompt.fill(test=item, kind=test.kind.value),
            context=context,
            response=TestMend,
            max_output_tokens=_ANSWER_TOKENS,
        )

    async def draft(self, ctx: StepContext, item: str, state: Digest) -> TestMend | None:
        """No tool mends tests."""
        del ctx, item, state
        return None

    async def try_proposal(self, ctx: StepContext, item: str, proposal: TestMend, state: Digest) -> Verdict:
        """Run it until chance is ruled out."""
        progress = await _load(ctx, state)
        test = _test(progress, item)
        options: Any = ctx.options
        async with ctx.workspace() as workspace:
            tried = await try_mend(
                workspace,
                test,
                proposal.function,
                files=progress.files,
                at_least=options.runs,
                may_fail=[other.node_id for other in progress.details.found if other.node_id != item],
                at_once=options.at_once,
                timeout_s=options.timeout_s,
            )
        mend = Mend(
            node_id=item, source=proposal.function, kept=tried.kept, runs=tried.runs, reason=tried.reason
        )
        details = progress.details.model_copy(update={"mends": [*progress.details.mends, mend]})
        files = {**progress.files, test.path: tried.text} if tried.kept else progress.files
        feedback = None
        if not tried.kept:
            kept = await ctx.artifacts.put(
                tried.reason.encode(), name="feedback.txt", media_type="text/plain"
            )
            feedback = kept.digest
        return Verdict(
            state=await _save(ctx, progress.model_copy(update={"details": details, "files": files})),
            kept=int(tried.kept),
            rejected={} if tried.kept else {"runs" if tried.runs else "static": 1},
            feedback=feedback,
            done=tried.kept,
            headline=f"{item}: {'kept' if tried.kept else 'refused'}, {tried.reason}",
        )

    async def conclude(self, ctx: StepContext, state: Digest, notes: Sequence[str]) -> Finding:
        """The finding, with what came of the mends and their patch."""
        progress = await _load(ctx, state)
        details, found = progress.details, progress.found
        kept = [mend for mend in details.mends if mend.kept]
        listing = await ctx.artifacts.put(
            json.dumps([mend.model_dump(mode="json") for mend in details.mends], indent=1).encode(),
            name="mends.json",
            media_type="application/json",
        )
        artifacts, patch = [*found.artifacts, listing], None
        if progress.files:
            async with ctx.workspace() as workspace:
                diff = make_patch(workspace.project, progress.files)
            written = await ctx.artifacts.put(diff, name="flaky-tests.patch", media_type="text/x-diff")
            artifacts.append(written)
            patch = written.digest
        run = ToolRun(
            tool="qefleet mends (pytest)",
            version=version("qefleet"),
            argv=["try_mend", f"{len(details.mends)} proposals"],
            exit_code=0,
            duration_s=0.0,
            artifact=listing,
        )
        tools = [*found.measurement.tools, run]
        counts = {"flaky.mends_proposed": len(details.mends), "flaky.mended": len(kept)}
        metrics = found.measurement.metrics | {
            name: Measured(value=value, unit="tests", tool=len(tools) - 1) for name, value in counts.items()
        }
        headline = f"{found.headline}; {len(kept)} of {len(details.mends)} proposed mends hold"
        return found.model_copy(
            update={
                "measurement": found.measurement.model_copy(
                    update={"metrics": metrics, "tools": tools, "details": details.model_dump(mode="json")}
                ),
                "headline": headline if details.mends else found.headline,
                "artifacts": artifacts,
                "patch": patch,
                "notes": [*found.notes, *notes],
            }
        )


def _test(progress: MendProgress, item: str) -> FlakyTest:
    return next(test for test in progress.details.found if test.node_id == item)


async def _load(ctx: StepContext, state: Digest) -> MendProgress:
    return MendProgress.model_validate_json(await ctx.artifacts.get(state))


async def _save(ctx: StepContext, progress: MendProgress) -> Digest:
    content = progress.model_dump_json().encode()
    return (await ctx.artifacts.put(content, name="mending.json", media_type="application/json")).digest
