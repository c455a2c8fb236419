"""flaky-test-hunter: runs the suite many times, tells what failing depends on, and tries a model's mends."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, LoopOptions, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.flaky_mending import Mending, with_work
from qefleet.contracts.flaky import FlakyDetails, FlakyTest, Kind
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, Unmeasured
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.tools.flakiness.flaky import (
    Hunt,
    hunt_flaky_tests,
    issues_of,
    power,
    quarantine_lines,
    source_of,
)
from qefleet.tools.flakiness.rates import caught
from qefleet.tools.ground import Ground
from qefleet.tools.project import read_layout

_JUDGED = 15
_MESSAGE_LINES = 12
_MOST_MINUTES = 50
"""An activity that measures has an hour."""


class FlakyTestHunterOptions(LoopOptions):
    """How hard to look, and how many to mend."""

    runs: Annotated[int, Field(ge=2, le=200)] = 10
    """Of the whole suite: the first in the project's own order, the others shuffled."""
    max_minutes: Annotated[float, Field(gt=0, le=50)] | None = 15.0
    """For all runs: fewer are made where that is too short, and the result says how many. No further mend is
    begun once as long has passed again. Null is 50."""
    max_experiments: Annotated[int, Field(ge=0, le=2000)] = 200
    """Further runs of a few tests, for finding causes."""
    at_once: Annotated[int, Field(ge=1, le=16)] = 1
    """Runs side by side; tests that depend on time may then fail more often."""
    timeout_s: Annotated[float, Field(gt=0, le=3000)] = 600.0
    """For one run."""
    max_mends: Annotated[int, Field(ge=0, le=20)] = 5
    """Flaky tests for which a model may propose a new source, which is tried as often as it takes."""
    max_rounds: Annotated[int, Field(ge=1, le=3)] = 2
    """Proposals for each of them."""


class FlakyCause(BaseModel):
    """Why one test is flaky, as the model reads it."""

    test: Citation
    cause: Literal[
        "shared state", "randomness", "time", "concurrency", "ordering of sets", "resources", "environment",
        "a fault in the code under test", "unknown",
    ]  # fmt: skip
    why: str
    mend: str


class FlakyJudgement(BaseModel):
    """The model's part: causes and mends."""

    causes: list[FlakyCause]


async def _measure(ctx: StepContext) -> Finding:
    options: FlakyTestHunterOptions = ctx.options
    last = await _last_flaky(ctx)
    async with ctx.workspace() as workspace:
        hunt = await hunt_flaky_tests(
            workspace,
            runs=options.runs,
            max_s=(options.max_minutes or _MOST_MINUTES) * 60,
            timeout_s=options.timeout_s,
            max_experiments=options.max_experiments,
            only=_of_item(ctx, workspace),
            at_once=options.at_once,
            known=last,
        )
        evidence = [_evidence(workspace, test) for test in hunt.found[:_JUDGED]]
    quarantine = [test.node_id for test in hunt.flaky]
    lines, unsafe = quarantine_lines(quarantine, (test.node_id for test in hunt.tests))
    details = _details(options, hunt, last, quarantine)
    details = details.model_copy(
        update={
            "notes": [
                *details.notes,
                *(f"not in quarantine.txt: other tests' names begin with {t}" for t in unsafe),
            ]
        }
    )
    found = Finding(
        measurement=Measurement(
            metrics=_metrics(hunt, details),
            tools=list(hunt.tools),
            details=details.model_dump(mode="json"),
        ),
        headline=_headline(hunt, details),
        artifacts=[
            *await keep_all(ctx.artifacts, hunt.artifacts),
            *(await _keep_quarantine(ctx, hunt, lines) if quarantine else []),
        ],
        notes=details.notes,
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
    )
    return await with_work(ctx, found, details, most=options.max_mends) if ctx.uses_model else found


def _of_item(ctx: StepContext, ground: Ground) -> list[str]:
    """The item's own test files; without any, all tests are run."""
    layout = read_layout(ground.project)
    return [path for path in ctx.item.paths if layout.is_test_file(path)] if ctx.item else []


async def _last_flaky(ctx: StepContext) -> list[str]:
    """Tests that were flaky the last time on this project."""
    result = await ctx.last()
    found: list[Any] = result.measured.details.get("found", []) if result else []
    tests = [FlakyTest.model_validate(test) for test in found]
    return [test.node_id for test in tests if test.kind is not Kind.BROKEN]


def _details(
    options: FlakyTestHunterOptions, hunt: Hunt, last: list[str], quarantine: list[str]
) -> FlakyDetails:
    usable = hunt.usable
    passing = {test.node_id for test in hunt.tests if test.passed and not test.failed}
    notes = [*hunt.notes]
    if len(hunt.runs) < options.runs:
        notes.append(f"{len(hunt.runs)} of {options.runs} runs were made: {_why_fewer(hunt)}")
    return FlakyDetails(
        runs_asked=options.runs,
        runs=len(usable),
        unusable=[_why_unusable(hunt, number) for number, run in enumerate(hunt.runs) if not run.usable],
        tests=len(hunt.tests),
        not_always_there=sum(t.passed + t.failed + t.skipped < len(usable) for t in hunt.tests),
        found=list(hunt.found),
        gone=sorted(passing.intersection(last)),
        power=power(len(usable), clean=not hunt.flaky) if usable else "no run of the suite was usable",
        quarantine=quarantine,
        issues=issues_of(hunt.found),
        notes=notes,
    )


def _why_fewer(hunt: Hunt) -> str:
    return "max_minutes was reached" if hunt.usable else "none left a report, so no more were tried"


def _why_unusable(hunt: Hunt, number: int) -> str:
    run = hunt.runs[number]
    why = "; ".join(run.suite.details.notes) or run.suite.details.outcome.value
    order = "the project's own order" if run.order_seed is None else f"order seed {run.order_seed}"
    return f"run {number + 1} ({order}, PYTHONHASHSEED={run.hash_seed}): {why}"


def _metrics(hunt: Hunt, details: FlakyDetails) -> dict[str, Metric]:
    last_run = len(hunt.runs) - 1
    metrics: dict[str, Metric] = {
        "flaky.runs": Measured(value=details.runs, unit="runs", tool=last_run),
        "flaky.unusable_runs": Measured(value=len(details.unusable), unit="runs", tool=last_run),
    }
    by_kind = {kind: sum(test.kind is kind for test in hunt.found) for kind in Kind}
    counts = {
        "flaky.tests": len(hunt.flaky),
        "flaky.new": sum(not test.known for test in hunt.flaky),
        "flaky.intermittent": by_kind[Kind.INTERMITTENT],
        "flaky.order_dependent": by_kind[Kind.ORDER],
        "flaky.hash_seed_dependent": by_kind[Kind.HASH_SEED],
        "flaky.unexplained": by_kind[Kind.UNEXPLAINED],
        "flaky.broken": by_kind[Kind.BROKEN],
    }
    needed = 2
    if details.runs < needed:
        why = details.unusable[0] if details.unusable else "there was time for one run only"
        reason = f"{details.runs} of {len(hunt.runs)} runs were usable, {needed} are needed: {why}"
        return metrics | {name: Unmeasured(reason=reason) for name in (*counts, "flaky.catch_10_percent")}
    metrics |= {
        name: Measured(value=value, unit="tests", tool=len(hunt.tools) - 1) for name, value in counts.items()
    }
    metrics["flaky.catch_10_percent"] = Measured(
        value=100 * caught(0.1, details.runs), unit="percent", tool=last_run
    )
    return metrics


def _headline(hunt: Hunt, details: FlakyDetails) -> str:
    if not details.runs:
        return "flaky tests were not looked for: " + (details.unusable or ["no run was made"])[0]
    broken = len(hunt.found) - len(hunt.flaky)
    text = f"{len(hunt.flaky) or 'no'} flaky of {details.tests} tests in {details.runs} runs"
    if broken:
        text += f", {broken} broken"
    return f"{text}; {details.power}"


async def _keep_quarantine(ctx: StepContext, hunt: Hunt, lines: list[str]) -> list[ArtifactRef]:
    """For `pytest @quarantine.txt`, and the same for other programs, with the reasons."""
    rows = [
        test.model_dump(mode="json", include={"node_id", "kind", "passed", "failed", "explanation"})
        for test in hunt.flaky
    ]
    return [
        await ctx.artifacts.put(
            "".join(f"{line}\n" for line in lines).encode(), name="quarantine.txt", media_type="text/plain"
        ),
        await ctx.artifacts.put(
            json.dumps(rows, indent=1).encode(), name="quarantine.json", media_type="application/json"
        ),
    ]


def _evidence(ground: Ground, test: FlakyTest) -> dict[str, object]:
    """What a model is shown of one test; without counts, which differ from run to run."""
    return {
        "test": test.node_id,
        "path": test.path,
        "line": test.line,
        "kind": test.kind.value,
        "partners": test.partners,
        "passes only after its partners": test.needs_partners,
        "source": source_of(ground, test.node_id),
        "source of partners": [source_of(ground, partner) for partner in test.partners[:2]],
        "message": "\n".join(test.message.splitlines()[:_MESSAGE_LINES]),
    }


_COUNTS = (
    Measure("flaky.tests", "tests", limit=Limit(max=0, severity="soft")),
    *(
        Measure(f"flaky.{name}", "tests")
        for name in ("new", "intermittent", "order_dependent", "hash_seed_dependent", "unexplained", "broken")
    ),
)

FLAKY_TEST_HUNTER = Agent(
    id="flaky-test-hunter",
    title="flaky-test-hunter",
    purpose="Runs the suite many times in other orders, and tells what each unsteady test depends on.",
    tier="complex",
    tools=("pytest",),
    measures=(
        *_COUNTS,
        Measure("flaky.runs", "runs"),
        Measure("flaky.unusable_runs", "runs", limit=Limit(max=0, severity="soft")),
        Measure("flaky.catch_10_percent", "percent"),
        Measure("flaky.mends_proposed", "tests"),
        Measure("flaky.mended", "tests"),
    ),
    options=FlakyTestHunterOptions,
    measure=_measure,
    judgement=Judgement(prompt="flaky-test-hunter", response=FlakyJudgement),
    loop=Mending(),
    memory_key="flaky-tests/history",
    memory_reads=("notes/*",),
)
