"""test-generator: proposes tests for what is not covered, and keeps those that pass six filters."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from qefleet.agents.agent import Agent, LoopOptions, Measure, StepContext
from qefleet.agents.evidence import keep_all
from qefleet.agents.measures import COVERAGE_BEFORE, TESTS
from qefleet.agents.parts import is_about
from qefleet.agents.strategies import draft_tests, gains_of, prompt_of
from qefleet.contracts.base import Digest, Model
from qefleet.contracts.generation import Filter, GenerationDetails, GenerationState, KeptTest, Segment
from qefleet.contracts.generation import Verdict as TestVerdict
from qefleet.contracts.items import Item
from qefleet.contracts.learning import Features, Gains, Order, Strategy
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun
from qefleet.contracts.runs import AgentResult
from qefleet.contracts.steps import Finding, Verdict, WorkItem
from qefleet.learning.features import features_of
from qefleet.llm.question import Question
from qefleet.llm.source_text import python_source
from qefleet.tools.generation.candidates import begin_generation, judge_proposal
from qefleet.tools.generation.keep import kept_files
from qefleet.tools.generation.pynguin import PYNGUIN
from qefleet.tools.generation.segments import find_segments
from qefleet.tools.project import read_layout
from qefleet.tools.running.coverage import coverage_metrics
from qefleet.tools.running.suite import SuiteRun, run_suite, suite_metrics
from qefleet.tools.source_tree import read_source
from qefleet.workspace.patches import make_patch

_LISTED_VERDICTS = 200
_SHOWN_VERDICTS = 50
_NAMED = 5
_LOOKED_THROUGH = 10_000
_ANSWER_TOKENS = 1000
"""Three tests take 350; a small model that can't stop is cut off here."""


class TestGeneratorOptions(LoopOptions):
    """How much to generate."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    max_segments: Annotated[int, Field(ge=1, le=200)] = 12
    """Under-covered pieces of source to work on, the most rewarding first."""
    max_rounds: Annotated[int, Field(ge=1, le=3)] = 3
    """Proposals for each of them."""
    allow_red: bool = False
    """Generate although the project's own suite fails."""


class TestProposal(BaseModel):
    """What a model, or a tool, proposes."""

    __test__ = False

    tests: Annotated[str, AfterValidator(python_source)]
    """Source of a test module."""


class GenerationProgress(Model):
    """The loop's state, an artifact between rounds."""

    segments: list[Segment]
    generation: GenerationState
    verdicts: list[TestVerdict] = []
    gains: dict[str, Gains] = {}
    """By item: what its rounds gave and took."""
    base: Measurement


async def _measure(ctx: StepContext) -> Finding:
    options: TestGeneratorOptions = ctx.options
    async with ctx.workspace() as workspace:
        base = await run_suite(workspace, coverage=True)
        artifacts = await keep_all(ctx.artifacts, base.artifacts)
        metrics = suite_metrics(base) | coverage_metrics(
            base.coverage.totals if base.coverage else None, tool=len(base.tools) - 1, before=True
        )
        measurement = Measurement(metrics=metrics, tools=list(base.tools))
        refusal = _refusal(options, base)
        if refusal or base.coverage is None:
            return _nothing(measurement, refusal, base.details.notes, artifacts)
        state = _confined(await begin_generation(workspace, base), ctx.item)
        segments = segments_to_cover(ctx, workspace.project, state)
    if not segments:
        missing = sum(map(len, state.open_lines.values())) + sum(map(len, state.open_branches.values()))
        uncovered = "no function is uncovered" if ctx.changes is None else "no changed function is uncovered"
        where = f" in {ctx.item.id}" if ctx.item else ""
        why = f"nothing to gain: {uncovered if missing else 'everything is covered'}{where}"
        return _nothing(measurement, why, state.notes, artifacts)
    progress = GenerationProgress(segments=segments, generation=state, base=measurement)
    return Finding(
        measurement=measurement,
        headline=f"{len(segments)} segments to try",
        artifacts=artifacts,
        work=[WorkItem(id=segment.id, title=f"{segment.module}.{segment.qualname}") for segment in segments],
        state=await _save(ctx, progress),
    )


def segments_to_cover(ctx: StepContext, project: Path, state: GenerationState) -> list[Segment]:
    """What to work on, in the order of the step; in diff mode only what has a changed line."""
    options: TestGeneratorOptions = ctx.options
    changes = ctx.changes
    lines, branches = state.open_lines, state.open_branches
    if changes is not None:
        lines = {file: found for file, found in lines.items() if file in changes.root}
        branches = {file: found for file, found in branches.items() if file in changes.root}
    found = find_segments(project, lines, branches, most=_LOOKED_THROUGH)
    if changes is not None:
        found = [part for part in found if changes.touch(part.file, part.start_line, part.end_line)]
    if ctx.order is Order.RISK:
        risky = _places_with_issues(ctx.completed)
        found.sort(key=lambda part: not any(part.has(path, line) for path, line in risky))
    elif ctx.order is Order.SHORT:
        found.sort(key=lambda part: part.end_line - part.start_line)
    return found[: options.max_segments]


def _places_with_issues(results: Sequence[AgentResult]) -> set[tuple[str, int]]:
    """Where the agents before have found code to be complex, risky or unsafe."""
    issues = [issue for result in results for issue in result.measured.details.get("issues", [])]
    return {(issue["path"], issue["line"]) for issue in issues if issue["path"] and issue["line"]}


def _confined(state: GenerationState, item: Item | None) -> GenerationState:
    """Only what is open in the item's files: what its tests reach elsewhere is another item's to gain."""
    return state.model_copy(
        update={
            "open_lines": {path: lines for path, lines in state.open_lines.items() if is_about(item, path)},
            "open_branches": {
                path: pairs for path, pairs in state.open_branches.items() if is_about(item, path)
            },
        }
    )


def _refusal(options: TestGeneratorOptions, base: SuiteRun) -> str:
    """Why nothing is generated; empty when nothing speaks against it."""
    if base.coverage is None:
        return "nothing generated: coverage could not be measured"
    if base.green or options.allow_red:
        return ""
    failing = [test.node_id for test in base.details.failing]
    if not failing:
        return "nothing generated: the project's own suite does not run"
    counts = base.details.counts
    more = counts.failed + counts.errors - len(failing[:_NAMED])
    named = ", ".join(failing[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"nothing generated over a red base (options.allow_red): {named}"


def _nothing(
    measurement: Measurement, why: str, notes: Sequence[str], artifacts: list[ArtifactRef]
) -> Finding:
    details = GenerationDetails(proposed=0, kept=0, rejected={}, notes=list(notes))
    return Finding(
        measurement=measurement.model_copy(update={"details": details.model_dump(mode="json")}),
        headline=why,
        artifacts=artifacts,
        notes=list(notes),
    )


class _Generation:
    """Rounds of proposing tests for a segment and judging them."""

    response = TestProposal

    async def question(
        self, ctx: StepContext, item: str, state: Digest, feedback: str | None
    ) -> Question[TestProposal]:
        return await self.question_by(ctx, item, state, feedback, strategy=None, recalled="")

    async def question_by(
        self,
        ctx: StepContext,
        item: str,
        state: Digest,
        feedback: str | None,
        *,
        strategy: Strategy | None,
        recalled: str,
    ) -> Question[TestProposal]:
        """What a model is asked where a strategy was chosen; `recalled` are tests kept for similar code."""
        progress = await _load(ctx, state)
        segment = _segment(progress, item)
        prompt = prompt_of(strategy)
        context = {"source": _source(segment, progress.generation)}
        if recalled:
            context["tests that were kept for similar code of this project"] = recalled
        if feedback:
            context["what happened to your last tests"] = feedback
        return Question(
            system=prompt.system,
            instruction=prompt.fill(
                import_line=segment.import_line, qualname=segment.qualname, module=segment.module
            ),
            context=context,
            response=TestProposal,
            max_output_tokens=_ANSWER_TOKENS,
        )

    async def draft(self, ctx: StepContext, item: str, state: Digest) -> TestProposal | None:
        """Docstring examples and the ghostwriter's forms; they go through the same filters."""
        return (await self.draft_by(ctx, item, state, Strategy.TOOLS))[0]

    async def draft_by(
        self, ctx: StepContext, item: str, state: Digest, strategy: Strategy
    ) -> tuple[TestProposal | None, str]:
        """What one of the strategies without a model proposes, and what went wrong, if anything."""
        segment = _segment(await _load(ctx, state), item)
        async with ctx.workspace() as workspace:
            tests, note = await draft_tests(workspace, segment, strategy)
        return TestProposal(tests=tests) if tests else None, note

    def knows_issues(self, ctx: StepContext) -> bool:
        """Whether a place is known where work would begin."""
        return bool(_places_with_issues(ctx.completed))

    async def features(self, ctx: StepContext, item: str, state: Digest, model: str) -> Features:
        """The state that a strategy is chosen in."""
        segment = _segment(await _load(ctx, state), item)
        async with ctx.workspace() as workspace:
            return features_of(segment, read_source(workspace.project / segment.file), model=model)

    async def gains(self, ctx: StepContext, item: str, state: Digest) -> Gains:
        """What the item's rounds gave and took."""
        progress = await _load(ctx, state)
        segment = _segment(progress, item)
        return progress.gains.get(item, gains_of(segment, ()))

    async def lessons(self, ctx: StepContext, item: str, state: Digest) -> list[KeptTest]:
        """The tests that were kept for the item."""
        return [test for test in (await _load(ctx, state)).generation.kept if test.segment == item]

    async def try_proposal(
        self, ctx: StepContext, item: str, proposal: TestProposal, state: Digest
    ) -> Verdict:
        progress = await _load(ctx, state)
        segment = _segment(progress, item)
        async with ctx.workspace() as workspace:
            judged = await judge_proposal(workspace, segment, proposal.tests, progress.generation)
        kept = [verdict for verdict in judged.verdicts if verdict.kept]
        rejected = [verdict for verdict in judged.verdicts if not verdict.kept]
        counts: dict[str, int] = {}
        for verdict in rejected:
            if verdict.filter:
                counts[verdict.filter] = counts.get(verdict.filter, 0) + 1
        feedback = "\n\n".join(f"{v.test}: {v.reason}\n{v.feedback}".strip() for v in rejected)
        gained = progress.gains.get(item, Gains()) + gains_of(segment, judged.verdicts)
        total, proposed = len(judged.state.kept), judged.state.proposed
        tally = _tally(len(kept), counts)
        return Verdict(
            state=await _save(
                ctx,
                progress.model_copy(
                    update={
                        "generation": judged.state,
                        "verdicts": [*progress.verdicts, *judged.verdicts][:_LISTED_VERDICTS],
                        "gains": progress.gains | {item: gained},
                    }
                ),
            ),
            kept=len(kept),
            rejected=counts,
            feedback=await _keep_text(ctx, feedback) if feedback else None,
            done=_is_done(segment, judged.state) or bool(kept and not rejected),
            headline=f"{total} kept of {proposed} proposed; {segment.qualname}: {tally}",
        )

    async def conclude(self, ctx: StepContext, state: Digest, notes: Sequence[str]) -> Finding:
        """Merge what was kept into files and a patch."""
        progress = await _load(ctx, state)
        generation = progress.generation
        patch: Digest | None = None
        judged = await _keep(ctx, progress)
        artifacts = [judged]
        files: dict[str, str] = {}
        if generation.kept:
            async with ctx.workspace() as workspace:
                layout = read_layout(workspace.project)
                files = kept_files(workspace.project, layout, generation.kept)
                diff = make_patch(workspace.project, files)
            kept = await ctx.artifacts.put(diff, name="test-generator.patch", media_type="text/x-diff")
            patch = kept.digest
            artifacts.append(kept)
        details = GenerationDetails(
            proposed=generation.proposed,
            kept=len(generation.kept),
            rejected=generation.rejected,
            # The rest is in the artifact: results travel through histories.
            verdicts=[v.model_copy(update={"feedback": ""}) for v in progress.verdicts[:_SHOWN_VERDICTS]],
            files=sorted(files),
            mutants_killed=generation.mutants_killed,
            mutants_total=generation.mutants_total,
            notes=[*generation.notes, *notes],
        )
        tools = [*progress.base.tools, _filters_run(progress, judged)]
        metrics = progress.base.metrics | _generation_metrics(details, tool=len(tools) - 1)
        return Finding(
            measurement=Measurement(
                metrics=metrics, tools=tools, details=details.model_dump(mode="json", exclude_defaults=True)
            ),
            headline=_summary(details),
            artifacts=artifacts,
            patch=patch,
            notes=details.notes,
        )


def _filters_run(progress: GenerationProgress, judged: ArtifactRef) -> ToolRun:
    """Where the counts of proposals and mutants come from; every verdict is in the artifact."""
    return ToolRun(
        tool="qefleet filters (pytest, coverage, mutmut)",
        version=f"{version('qefleet')} (mutmut {version('mutmut')})",
        argv=["judge_proposal"],
        exit_code=0,
        duration_s=sum(verdict.duration_s for verdict in progress.verdicts),
        artifact=judged,
    )


_GENERATION = tuple(
    Measure(name, "mutants" if name.startswith("mutants.") else "tests", additive=True)
    for name in (
        "generation.proposed",
        "generation.kept",
        *(f"generation.rejected.{name}" for name in Filter),
        "mutants.killed",
        "mutants.total",
    )
)


def _generation_metrics(details: GenerationDetails, *, tool: int) -> dict[str, Metric]:
    def count(value: int, unit: str = "tests") -> Measured:
        return Measured(value=value, unit=unit, tool=tool)

    metrics: dict[str, Metric] = {
        "generation.proposed": count(details.proposed),
        "generation.kept": count(details.kept),
    }
    for name in Filter:
        metrics[f"generation.rejected.{name}"] = count(details.rejected.get(name, 0))
    metrics["mutants.killed"] = count(details.mutants_killed, "mutants")
    metrics["mutants.total"] = count(details.mutants_total, "mutants")
    return metrics


def _summary(details: GenerationDetails) -> str:
    text = f"{details.kept} kept of {details.proposed} proposed"
    if any(details.rejected.values()):
        why = ", ".join(f"{name} {number}" for name, number in details.rejected.items() if number)
        text += f" (rejected by: {why})"
    return text + f"; {details.mutants_killed} of {details.mutants_total} mutants killed"


def _tally(kept: int, rejected: dict[str, int]) -> str:
    parts = [f"{kept} kept"] if kept else []
    parts += [f"{number} rejected by {name}" for name, number in rejected.items()]
    return ", ".join(parts) or "no test in the proposal"


def _is_done(segment: Segment, state: GenerationState) -> bool:
    lines = set(state.open_lines.get(segment.file, []))
    return not lines.intersection(segment.missing_lines)


def _source(segment: Segment, generation: GenerationState) -> str:
    """What a model is shown: the class header, then the segment, marked where only a part is uncovered."""
    lines = segment.source.rstrip("\n").split("\n")
    missing = set(generation.open_lines.get(segment.file, [])).intersection(segment.missing_lines)
    if len(missing) < len([line for line in lines if line.strip()]) / 2:
        first = segment.end_line - len(lines) + 1
        lines = [
            f"{line}  # not covered" if number in missing else line
            for number, line in enumerate(lines, start=first)
        ]
    return "\n\n".join([*([segment.class_header] if segment.class_header else []), "\n".join(lines)])


def _segment(progress: GenerationProgress, item: str) -> Segment:
    return next(segment for segment in progress.segments if segment.id == item)


async def _load(ctx: StepContext, state: Digest) -> GenerationProgress:
    return GenerationProgress.model_validate_json(await ctx.artifacts.get(state))


async def _save(ctx: StepContext, progress: GenerationProgress) -> Digest:
    return (await _keep(ctx, progress)).digest


async def _keep(ctx: StepContext, progress: GenerationProgress) -> ArtifactRef:
    content = progress.model_dump_json().encode()
    return await ctx.artifacts.put(content, name="generation.json", media_type="application/json")


async def _keep_text(ctx: StepContext, text: str) -> Digest:
    return (await ctx.artifacts.put(text.encode(), name="feedback.txt", media_type="text/plain")).digest


_GENERATING = _Generation()

TEST_GENERATOR = Agent(
    id="test-generator",
    title="test-generator",
    purpose="Proposes tests for uncovered code and keeps those that pass, gain coverage and kill mutants.",
    tier="complex",
    tools=("pytest", "coverage", "mutmut", "hypothesis", PYNGUIN),
    measures=(*TESTS, *COVERAGE_BEFORE, *_GENERATION),
    options=TestGeneratorOptions,
    measure=_measure,
    loop=_GENERATING,
    learner=_GENERATING,
    memory_key="patterns/test-generator",
    memory_reads=("notes/*",),
)
