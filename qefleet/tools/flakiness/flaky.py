"""Flaky tests of a project: run again and again, told apart by what their failing depends on."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from qefleet.contracts.flaky import FlakyTest, Kind, TestCounts
from qefleet.contracts.issues import Issue, issue_id, numbered
from qefleet.contracts.measured import ArtifactRef, ToolRun
from qefleet.memory.artifacts import reference
from qefleet.tools.flakiness.flaky_causes import Laboratory, find_cause
from qefleet.tools.flakiness.rates import caught, runs_to_catch, unseen_rate, wilson
from qefleet.tools.ground import Ground
from qefleet.tools.running.repeat import OneRun, count_tests, repeat_suite
from qefleet.tools.source_tree import Function, read_source

_MOST_TESTS = 100
_SOURCE_LINES = 60
_SHARE_OF_RUNS = 0.7
"""Of the time: the rest is for finding causes."""
_ORDINARY_RATE = 0.1
"""The failure rate about which each result says how likely it is to have been caught."""


@dataclass(frozen=True, kw_only=True)
class Hunt:
    """What was found."""

    runs: tuple[OneRun, ...]
    tests: tuple[TestCounts, ...]
    found: tuple[FlakyTest, ...]
    """Flaky ones in the order of their node ids, then the broken."""
    tools: tuple[ToolRun, ...]
    """One for each run of the suite, then one for all experiments where there were any."""
    artifacts: tuple[tuple[ArtifactRef, bytes], ...]
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> list[OneRun]:
        """Runs that count."""
        return [run for run in self.runs if run.usable]

    @property
    def flaky(self) -> list[FlakyTest]:
        """Without the broken."""
        return [test for test in self.found if test.kind is not Kind.BROKEN]


async def hunt_flaky_tests(
    ground: Ground,
    *,
    runs: int,
    max_s: float,
    timeout_s: float,
    max_experiments: int,
    only: Sequence[str] = (),
    at_once: int = 1,
    known: Collection[str] = (),
) -> Hunt:
    """Run the suite several times, and each test that failed again until its cause is told.

    Args:
        ground: The project's workspace.
        runs: Of the suite, at most.
        max_s: For everything; fewer runs are made where that is too short.
        timeout_s: For one run.
        max_experiments: Runs of a few tests, for finding causes.
        only: Test files; all that the project collects without them.
        at_once: Runs side by side.
        known: Flaky tests of the last time.
    """
    until = time.monotonic() + max_s
    done = await repeat_suite(
        ground, runs=runs, max_s=max_s * _SHARE_OF_RUNS, timeout_s=timeout_s, only=only, at_once=at_once
    )
    usable = [run for run in done if run.usable]
    counts = count_tests(usable)
    laboratory = Laboratory(
        ground=ground, runs=max_experiments, until=until, timeout_s=timeout_s, at_once=at_once
    )
    failed = [test for test in counts if test.failed]
    found = [
        await _explained(ground, laboratory, test, usable, known=test.node_id in known)
        for test in failed[:_MOST_TESTS]
    ]
    kept = [_numbered_reports(number, run) for number, run in enumerate(done, start=1)]
    tools = [run.suite.tools[0] for run in done]
    artifacts = [artifact for reports in kept for artifact in reports]
    if laboratory.experiments:
        tool, artifact = _experiments(laboratory)
        tools.append(tool)
        artifacts.append(artifact)
    more = len(failed) - len(found)
    return Hunt(
        runs=tuple(done),
        tests=tuple(counts),
        found=tuple(sorted(found, key=lambda test: test.kind is Kind.BROKEN)),
        tools=tuple(tools),
        artifacts=tuple(artifacts),
        notes=(f"{more} more tests failed; their causes were not looked for",) if more > 0 else (),
    )


def power(runs: int, *, clean: bool) -> str:
    """What so many runs can and can't tell, in one sentence.

    Args:
        runs: Usable ones.
        clean: No test was flaky.
    """
    text = (
        f"{runs} runs catch a test that fails 10 % of the time with probability "
        f"{100 * caught(_ORDINARY_RATE, runs):.0f} %; 95 % needs {runs_to_catch(_ORDINARY_RATE)} runs"
    )
    if clean:
        text += (
            f"; with 95 % confidence a test that never failed fails at most {100 * unseen_rate(runs):.0f} % "
            "of the time"
        )
    return text


def quarantine_lines(flaky: Iterable[str], everything: Iterable[str]) -> tuple[list[str], list[str]]:
    """Lines for `pytest @quarantine.txt`, and the tests that can't be left out by name alone.

    `--deselect` takes a prefix: where another test's id begins with a flaky one's, it would go too.

    Args:
        flaky: Node ids to leave out.
        everything: All node ids.
    """
    wanted = {*flaky}
    others = sorted({*everything} - wanted)
    unsafe = sorted(test for test in wanted if any(other.startswith(test) for other in others))
    return [f"--deselect={test}" for test in sorted(wanted - {*unsafe})], unsafe


def issues_of(found: Iterable[FlakyTest]) -> list[Issue]:
    """One for each test, at the place of its function."""
    return numbered(
        Issue(
            id=issue_id(f"flaky/{test.kind}", test.path, test.line),
            tool="pytest",
            rule=f"flaky/{test.kind}",
            severity="high" if test.kind is Kind.BROKEN else "medium",
            message=f"{test.node_id} failed {test.failed} of {test.failed + test.passed} runs: "
            f"{test.explanation}",
            path=test.path,
            line=test.line,
            known=test.known,
        )
        for test in found
    )


async def _explained(
    ground: Ground, laboratory: Laboratory, test: TestCounts, runs: Sequence[OneRun], *, known: bool
) -> FlakyTest:
    cause = await find_cause(laboratory, test, runs)
    failing = next(run for run in runs if run.passed(test.node_id) is False)
    low, high = wilson(test.failed, test.failed + test.passed)
    passed, failed = laboratory.alone(test.node_id)
    path = test.node_id.partition("::")[0]
    return FlakyTest(
        node_id=test.node_id,
        kind=cause.kind,
        path=path,
        line=_line(ground, test.node_id),
        passed=test.passed,
        failed=test.failed,
        rate_low=low,
        rate_high=high,
        alone_passed=passed,
        alone_failed=failed,
        partners=list(cause.partners),
        needs_partners=cause.needs_partners,
        explanation=cause.explanation,
        message=test.message,
        known=known,
        hash_seed=failing.hash_seed,
        order_seed=failing.order_seed,
    )


def find_function(ground: Ground, node_id: str) -> Function | None:
    """A test's function in its file's syntax tree; None where it can't be told."""
    path, *names = node_id.partition("[")[0].split("::")
    tree = read_source(ground.project / path) if path.endswith(".py") else None
    qualname = ".".join(names)
    return next((d.node for d in tree.definitions if d.qualname == qualname), None) if tree else None


def source_of(ground: Ground, node_id: str) -> str:
    """A test's function as it stands in its file; its beginning where it is long."""
    node, tree = find_function(ground, node_id), read_source(ground.project / node_id.partition("::")[0])
    if node is None or tree is None:
        return ""
    start = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    return tree.slice(start, min(node.end_lineno or node.lineno, start + _SOURCE_LINES))


def _line(ground: Ground, node_id: str) -> int | None:
    node = find_function(ground, node_id)
    return node.lineno if node else None


def _numbered_reports(number: int, run: OneRun) -> list[tuple[ArtifactRef, bytes]]:
    """A run's reports, each with a name of its own."""
    return [
        (ref.model_copy(update={"name": f"run-{number:02}-{ref.name}"}), content)
        for ref, content in run.suite.artifacts
        if ref.name == "junit.xml" or ref == run.suite.tools[0].log
    ]


def _experiments(laboratory: Laboratory) -> tuple[ToolRun, tuple[ArtifactRef, bytes]]:
    content = json.dumps([run.model_dump(mode="json") for run in laboratory.experiments], indent=1).encode()
    ref = reference(content, name="experiments.json", media_type="application/json")
    run = ToolRun(
        tool="qefleet experiments (pytest)",
        version=f"{version('qefleet')} (pytest {laboratory.version})",
        argv=["find_cause", f"{len(laboratory.experiments)} runs"],
        exit_code=0,
        duration_s=sum(run.duration_s for run in laboratory.experiments),
        artifact=ref,
    )
    return run, (ref, content)
