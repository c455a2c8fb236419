"""requirements-validator: which requirements pass their tests; a model judges how they are written."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.measures import TESTS
from qefleet.contracts.base import Model
from qefleet.contracts.items import Item
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.requirements import RequirementsDetails, Trace
from qefleet.contracts.steps import Finding
from qefleet.tools.requirements import check_scenario, read_requirements, trace
from qefleet.tools.running.junit import read_cases
from qefleet.tools.running.suite import SuiteRun, run_suite, suite_metrics

_LISTED = 200
_JUDGED = 20


class RequirementsValidatorOptions(Model):
    """How to run the suite whose outcomes count."""

    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0


class RequirementJudgement(BaseModel):
    """How one requirement is written."""

    id: Citation
    independent: bool
    negotiable: bool
    valuable: bool
    estimable: bool
    small: bool
    testable: bool
    ambiguities: list[str]
    """Words that can be read in more than one way."""
    scenarios: list[str] = []
    """In Gherkin: cases that it leaves open."""


class RequirementsJudgement(BaseModel):
    """The model's part: each requirement by INVEST, and what is ambiguous in it."""

    requirements: list[RequirementJudgement]


async def _measure(ctx: StepContext) -> Finding:
    options: RequirementsValidatorOptions = ctx.options
    async with ctx.workspace() as workspace:
        requirements, unreadable = read_requirements(workspace.project)
        run = await run_suite(workspace, coverage=False, timeout_s=options.timeout_s)
    if ctx.item:
        requirements = [requirement for requirement in requirements if requirement.id == ctx.item.id]
    traces, unknown = trace(requirements, read_cases(run.artifact("junit.xml")) or [])
    rows = [row.model_dump(mode="json") for row in traces]
    matrix = await ctx.artifacts.put(
        json.dumps(rows, indent=1).encode(), name="requirements.json", media_type="application/json"
    )
    tools = [*run.tools, _matrix_run(matrix, len(traces))]
    details = RequirementsDetails(traces=traces[:_LISTED], unknown=unknown, unreadable=unreadable)
    evidence = [
        {"id": row.requirement.id, "text": row.requirement.text, "tests": len(row.tests)}
        for row in traces[:_JUDGED]
    ]
    return Finding(
        measurement=Measurement(
            metrics=suite_metrics(run) | _metrics(traces, run, tool=len(tools) - 1),
            tools=tools,
            details=details.model_dump(mode="json"),
        ),
        headline=_headline(traces),
        artifacts=[*await keep_all(ctx.artifacts, run.artifacts), matrix],
        notes=[f"not read: {reason}" for reason in unreadable],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
        items=None if ctx.item else await ctx.keep_items([_item(row) for row in traces]),
    )


def check_scenarios(ctx: StepContext, judgement: RequirementsJudgement) -> None:
    """Check that the scenarios that a model proposes are Gherkin.

    Raises:
        ValueError: One isn't; its path is named.
    """
    del ctx
    for number, requirement in enumerate(judgement.requirements):
        for place, scenario in enumerate(requirement.scenarios):
            try:
                check_scenario(scenario)
            except ValueError as error:
                raise ValueError(f"requirements.{number}.scenarios.{place}: {error}") from error


def _metrics(traces: list[Trace], run: SuiteRun, *, tool: int) -> dict[str, Metric]:
    """How many there are, are traced, and passed; the last two only from a suite that came to its end."""
    metrics: dict[str, Metric] = {
        "requirements.total": Measured(value=len(traces), unit="requirements", tool=tool)
    }
    unmeasured = {metric.reason for metric in suite_metrics(run).values() if isinstance(metric, Unmeasured)}
    for name, value in (
        ("requirements.traced", sum(bool(row.tests) for row in traces)),
        ("requirements.passed", sum(row.passed for row in traces)),
    ):
        metrics[name] = (
            Unmeasured(reason="; ".join(sorted(unmeasured)))
            if unmeasured
            else Measured(value=value, unit="requirements", tool=tool)
        )
    return metrics


def _matrix_run(matrix: ArtifactRef, count: int) -> ToolRun:
    return ToolRun(
        tool="gherkin-official, traced to pytest's report",
        version=version("gherkin-official"),
        argv=["read_requirements", f"{count} requirements"],
        exit_code=0,
        duration_s=0.0,
        artifact=matrix,
    )


def _item(row: Trace) -> Item:
    requirement = row.requirement
    files = sorted({test.node_id.partition("::")[0] for test in row.tests})
    return Item(
        id=requirement.id,
        title=f"{requirement.id}: {requirement.title}"[:512],
        paths=[requirement.path, *files][:256],
        data={"text": requirement.text},
    )


def _headline(traces: list[Trace]) -> str:
    if not traces:
        return "no requirement found: there is no scenario in a .feature file"
    traced, passed = sum(bool(row.tests) for row in traces), sum(row.passed for row in traces)
    return f"{passed} of {len(traces)} requirements pass their tests, {len(traces) - traced} have none"


REQUIREMENTS_VALIDATOR = Agent(
    id="requirements-validator",
    title="requirements-validator",
    purpose="Traces scenarios of feature files to tests and their outcomes, and judges how they are written.",
    tier="moderate",
    tools=("gherkin-official", "pytest"),
    measures=(
        *TESTS,
        *(
            Measure(f"requirements.{name}", "requirements", additive=True)
            for name in ("total", "traced", "passed")
        ),
    ),
    options=RequirementsValidatorOptions,
    measure=_measure,
    judgement=Judgement(
        prompt="requirements-validator", response=RequirementsJudgement, check=check_scenarios
    ),
    memory_key="requirements/validated",
    memory_reads=("notes/*",),
)
