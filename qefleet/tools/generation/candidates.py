"""The six filters: what a proposed test has to pass before it is kept.

In their order: its syntax tree, five fresh sandboxed processes, their reports, the gain over everything
accumulated so far, a mutant that nothing else kills, the whole suite. Each test function is judged by
itself, so that three right tests of five are three kept tests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qefleet.contracts.execution import SuiteOutcome
from qefleet.contracts.generation import Filter, Gain, GenerationState, KeptTest, Segment, Verdict
from qefleet.tools.generation.gain import find_gain, merge_gain
from qefleet.tools.generation.keep import candidate_path, kept_files
from qefleet.tools.generation.killing import Kill, kills_one_more
from qefleet.tools.generation.proposal import ProposedTest, read_proposal
from qefleet.tools.generation.static_filter import reaching_problem, resolve_imports, static_problem
from qefleet.tools.generation.trial import Trial, try_test
from qefleet.tools.ground import Ground
from qefleet.tools.project import Layout, read_layout
from qefleet.tools.running.suite import SuiteRun, run_suite
from qefleet.tools.source_tree import SourceTree, parse_python, read_source

_MOST_TESTS = 12
_FEEDBACK_CHARS = 1200


@dataclass(frozen=True, kw_only=True)
class JudgeLimits:
    """How much one proposed test may cost."""

    runs: int = 5
    """Fresh processes that must all pass."""
    cpu_s: int = 20
    """Processor time of each: what ends a loop must not depend on how busy the machine is. In a fresh process
    Hypothesis alone takes up to ten seconds of it, for its table of characters."""
    wall_s: float = 45.0
    """Wall time of each: what ends a test that waits."""
    mutants: int = 12
    mutants_s: float = 60.0
    """For all mutants of one test."""


@dataclass(frozen=True)
class Judgement:
    """What became of a proposal."""

    state: GenerationState
    verdicts: tuple[Verdict, ...]
    """One a proposed test, in the proposal's order."""


async def begin_generation(ground: Ground, base: SuiteRun, *, order_seed: int = 1) -> GenerationState:
    """The state before anything is generated.

    Runs the base suite once in random order: where it doesn't pass that (tests that depend on each
    other), new tests are tried in the project's own order, and the state says so.

    Args:
        ground: The project's workspace.
        base: The suite as it is, run with coverage.
        order_seed: Seed of the random order.

    Raises:
        ValueError: `base` has no coverage.
    """
    if base.coverage is None:
        raise ValueError("generation starts from a suite that was run with coverage")
    notes: list[str] = []
    shuffled = await run_suite(ground, coverage=False, order_seed=order_seed)
    seed: int | None = order_seed
    failing = base.failing_ids
    if base.details.outcome is not SuiteOutcome.NO_TESTS and not _no_worse(shuffled, base.failing_ids, 0):
        seed = None
        notes.append("The project's suite fails in random order by itself, so it is run in its own order.")
    return GenerationState(
        open_lines={file.path: file.missing_lines for file in base.coverage.files if file.missing_lines},
        open_branches={
            file.path: file.missing_branches for file in base.coverage.files if file.missing_branches
        },
        base_total=base.details.counts.total,
        base_failing=sorted(failing),
        base_duration_s=shuffled.details.duration_s,
        order_seed=seed,
        notes=notes,
    )


async def judge_proposal(
    ground: Ground,
    segment: Segment,
    proposal: str,
    state: GenerationState,
    *,
    limits: JudgeLimits = JudgeLimits(),
) -> Judgement:
    """Put every test of a proposal through the six filters.

    Args:
        ground: The project's workspace, without any of the kept tests.
        segment: What the proposal was written for.
        proposal: Source text as the proposer wrote it; fences, helpers and several tests are welcome.
        state: What was kept and is still open; the result carries the next one.
        limits: What a test may cost.
    """
    layout = read_layout(ground.project)
    subject = read_source(ground.project / segment.file)
    if subject is None:
        return _nothing(state, segment, "the file under test can't be parsed")
    read = read_proposal(proposal, segment, subject)
    if not read.tests and not read.unreadable:
        return _nothing(state, segment, "it contains no function whose name begins with test")
    bench = _Bench(ground, layout, segment, subject, limits)
    tests = _uniquely_named(read.tests, state)
    verdicts: dict[str, Verdict] = {
        name: bench.rejected(name, Filter.STATIC, f"not Python: {error}") for name, error in read.unreadable
    }
    order = [*verdicts, *(test.name for test in tests)]
    sound, rejected = await _screen(bench, tests, skipped=read.skipped_as_a_whole)
    verdicts |= rejected
    survivors: list[KeptTest] = []
    current = state
    for test in sound:
        verdicts[test.name], survivor = await bench.judge(test, current)
        if survivor is not None:
            survivors.append(survivor)
            current = _accept(current, survivor)
    kept, broken = await _whole_suite(ground, layout, state, survivors)
    for name, reason in broken.items():
        verdicts[name] = verdicts[name].model_copy(
            update={"kept": False, "filter": Filter.SUITE, "reason": reason, "feedback": reason}
        )
    for test in kept:
        state = _accept(state, test)
    ordered = tuple(verdicts[name] for name in dict.fromkeys(order))
    return Judgement(_counted(state, ordered), ordered)


async def _screen(
    bench: _Bench, tests: Sequence[ProposedTest], *, skipped: bool
) -> tuple[list[ProposedTest], dict[str, Verdict]]:
    """Filter one: tests that are worth a run, and verdicts on the others."""
    problems: dict[str, str] = {}
    for number, test in enumerate(tests):
        problem = static_problem(test, bench.segment) or reaching_problem(test, bench.subject)
        if skipped:
            problem = "its module is marked to be skipped or to fail"
        if number >= _MOST_TESTS:
            problem = f"a proposal may hold {_MOST_TESTS} tests"
        if problem is not None:
            problems[test.name] = problem
    sound: list[ProposedTest] = []
    readable = [test for test in tests if test.name not in problems]
    for test, problem in await resolve_imports(
        bench.ground, readable, bench.segment, bench.subject, bench.layout
    ):
        if problem is None:
            sound.append(test)
        else:
            problems[test.name] = problem
    return sound, {name: bench.rejected(name, Filter.STATIC, why) for name, why in problems.items()}


@dataclass(frozen=True)
class _Bench:
    """Filters two to five for one test."""

    ground: Ground
    layout: Layout
    segment: Segment
    subject: SourceTree
    limits: JudgeLimits

    async def judge(self, test: ProposedTest, state: GenerationState) -> tuple[Verdict, KeptTest | None]:
        started = time.monotonic()
        path = candidate_path(self.layout, self.ground.project)
        files = {path: test.text.encode()}
        open_files = sorted(state.open_lines.keys() | state.open_branches.keys())
        trial = await try_test(
            self.ground,
            self.layout,
            path,
            files,
            open_files,
            runs=self.limits.runs,
            cpu_s=self.limits.cpu_s,
            wall_s=self.limits.wall_s,
        )
        verdict, gains, kill = await self._filters(test, path, files, state, trial)
        verdict = verdict.model_copy(
            update={
                "runs": trial.runs,
                "gained_lines": sum(len(gain.lines) for gain in gains),
                "gained_branches": sum(len(gain.branches) for gain in gains),
                "mutants_killed": kill.killed if kill else 0,
                "mutants_tried": kill.tried if kill else 0,
                "duration_s": round(time.monotonic() - started, 3),
                "notes": list(test.notes),
            }
        )
        if not verdict.kept or kill is None:
            return verdict, None
        return verdict, KeptTest(
            name=test.name,
            segment=self.segment.id,
            module=self.segment.module,
            imports=test.import_lines,
            helpers=[helper.source for helper in test.helpers],
            source=test.source,
            gains=gains,
            mutants_killed=kill.killed,
            mutants_tried=kill.tried,
        )

    async def _filters(
        self,
        test: ProposedTest,
        path: str,
        files: Mapping[str, bytes],
        state: GenerationState,
        trial: Trial,
    ) -> tuple[Verdict, list[Gain], Kill | None]:
        if trial.failed_filter is not None:
            feedback = trial.feedback[-_FEEDBACK_CHARS:]
            return self.rejected(test.name, trial.failed_filter, trial.reason, feedback), [], None
        gains = find_gain(trial.coverage, state)
        if not gains:
            reason = "it reaches nothing that the tests so far don't reach"
            return self.rejected(test.name, Filter.GAIN, reason, self._still_missing(state)), [], None
        kill = await kills_one_more(
            self.ground,
            self.layout,
            path=path,
            files=files,
            gains=gains,
            kept=kept_files(self.ground.project, self.layout, state.kept),
            most=self.limits.mutants,
            total_s=self.limits.mutants_s,
            suite_s=state.base_duration_s,
            control_s=self.limits.wall_s,
            base_failing=frozenset(state.base_failing),
        )
        if kill.reason:
            return self.rejected(test.name, Filter.MUTANTS, kill.reason, kill.feedback), gains, kill
        return (
            Verdict(test=test.name, segment=self.segment.id, kept=True, reason="passed all filters"),
            gains,
            kill,
        )

    def rejected(self, name: str, by: Filter, reason: str, feedback: str = "") -> Verdict:
        return Verdict(
            test=name,
            segment=self.segment.id,
            kept=False,
            filter=by,
            reason=reason,
            feedback=feedback or reason,
        )

    def _still_missing(self, state: GenerationState) -> str:
        open_lines = state.open_lines.get(self.segment.file, [])
        lines = [n for n in open_lines if self.segment.start_line <= n <= self.segment.end_line][:6]
        shown = "\n".join(f"{number}: {self.subject.lines[number - 1].strip()}" for number in lines)
        return f"Lines that no test reaches yet:\n{shown}" if shown else "All lines here are reached by now."


async def _whole_suite(
    ground: Ground, layout: Layout, state: GenerationState, survivors: Sequence[KeptTest]
) -> tuple[list[KeptTest], dict[str, str]]:
    """Filter six: all survivors at once, and one by one only when that fails."""
    if not survivors:
        return [], {}
    if await _suite_problem(ground, layout, state, survivors) is None:
        return list(survivors), {}
    kept: list[KeptTest] = []
    broken: dict[str, str] = {}
    for test in survivors:
        problem = await _suite_problem(ground, layout, state, [*kept, test])
        if problem is None:
            kept.append(test)
        else:
            broken[test.name] = problem
    return kept, broken


async def _suite_problem(
    ground: Ground, layout: Layout, state: GenerationState, added: Sequence[KeptTest]
) -> str | None:
    tests = [*state.kept, *added]
    files = {path: text.encode() for path, text in kept_files(ground.project, layout, tests).items()}
    run = await run_suite(
        ground,
        coverage=False,
        order_seed=state.order_seed,
        files=files,
        timeout_s=60.0 + 4 * state.base_duration_s,
    )
    expected = frozenset(state.base_failing)
    if _no_worse(run, expected, state.base_total + len(tests)):
        return None
    new = sorted(run.failing_ids - expected)
    order = "in random order" if state.order_seed is not None else "in its own order"
    if new:
        return f"the whole suite {order} fails with it: {', '.join(new[:3])}"
    counted = f"{run.details.counts.total} tests where {state.base_total + len(tests)} are expected"
    return f"the whole suite {order} ends differently with it: {run.details.outcome.value}, {counted}"


def _no_worse(run: SuiteRun, expected: frozenset[str], least: int) -> bool:
    """The run came to its end, and nothing failed that may not."""
    ended = run.details.outcome is SuiteOutcome.PASSED or (
        run.details.outcome is SuiteOutcome.FAILED and run.failing_ids <= expected
    )
    return ended and run.details.counts.total >= least


def _accept(state: GenerationState, test: KeptTest) -> GenerationState:
    lines, branches = merge_gain(state, test.gains)
    return state.model_copy(
        update={"open_lines": lines, "open_branches": branches, "kept": [*state.kept, test]}
    )


def _counted(state: GenerationState, verdicts: Sequence[Verdict]) -> GenerationState:
    rejected = dict(state.rejected)
    for verdict in verdicts:
        if verdict.filter is not None:
            rejected[verdict.filter] = rejected.get(verdict.filter, 0) + 1
    kept = [verdict for verdict in verdicts if verdict.kept]
    return state.model_copy(
        update={
            "proposed": state.proposed + len(verdicts),
            "rejected": rejected,
            "mutants_killed": state.mutants_killed + sum(verdict.mutants_killed for verdict in kept),
            "mutants_total": state.mutants_total + sum(verdict.mutants_tried for verdict in kept),
        }
    )


def _nothing(state: GenerationState, segment: Segment, reason: str) -> Judgement:
    verdict = Verdict(
        test="(none)", segment=segment.id, kept=False, filter=Filter.STATIC, reason=reason, feedback=reason
    )
    return Judgement(_counted(state, [verdict]), (verdict,))


def _uniquely_named(tests: Sequence[ProposedTest], state: GenerationState) -> list[ProposedTest]:
    """Give each test a name that no kept one and no sibling has."""
    taken = {test.name for test in state.kept}
    renamed: list[ProposedTest] = []
    for test in tests:
        name, number = test.name, 2
        while name in taken:
            name, number = f"{test.name}_{number}", number + 1
        taken.add(name)
        if name != test.name:
            source = re.sub(
                rf"^((?:async )?def|class) {test.name}\b",
                rf"\1 {name}",
                test.source,
                count=1,
                flags=re.MULTILINE,
            )
            test = replace(test, name=name, source=source, node=parse_python(source).body[0])  # noqa: PLW2901 - a value
        renamed.append(test)
    return renamed
