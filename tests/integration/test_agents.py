"""The agents on a small planted project: what they declare, and how they keep to one part of the work."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from planted_project import write_project

from qefleet.agents.agent import Agent, StepContext
from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import undeclared
from qefleet.agents.test_generator import TestProposal
from qefleet.contracts.base import Digest
from qefleet.contracts.coverage import CoverageTotals
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.measured import Measured, Measurement
from qefleet.contracts.runs import AgentResult, Decision, StepStatus, Thresholds
from qefleet.contracts.steps import Finding
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.testing.ground import LocalGround
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.workspace.patches import added_files, apply_patch, combine_patches
from qefleet.workspace.sandbox import Sandbox

_GRADE = """def grade(points: int) -> str:
    if points >= 90:
        return "A"
    return "C"


def sign(x: int) -> int:
    return 1 if x > 0 else -1
"""
_TIDY = """def tidy(text: str) -> str:
    return " ".join(text.split())


def known() -> int:
    return 1
"""
_FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\ntestpaths = ["tests"]\n',
    "planted/__init__.py": "",
    "planted/grades.py": _GRADE,
    "planted/texts.py": _TIDY,
    "tests/test_texts.py": "from planted.texts import known\n\ndef test_known():\n    assert known() == 1\n",
    "features/texts.feature": "Feature: Texts\n  @REQ-1\n  Scenario: Tidy\n    Given blanks\n",
    "tests/test_more.py": "def test_more():\n    assert 1\n",
}
_TESTS = {
    "planted.grades.grade": "from planted.grades import grade\n\ndef test_a():\n    assert grade(95) == 'A'\n"
    "    assert grade(1) == 'C'\n",
    "planted.grades.sign": "from planted.grades import sign\n\ndef test_a():\n    assert sign(2) == 1\n"
    "    assert sign(-2) == -1\n",
    "planted.texts.tidy": "from planted.texts import tidy\n\ndef test_a():\n    assert tidy(' a') == 'a'\n",
}


@dataclass
class Fleet:
    """Runs agents on the planted project, without workflows, and remembers what they found."""

    base: Path
    environment: Path
    sandbox: Sandbox
    artifacts: Artifacts
    findings: list[tuple[Agent, Finding]] = field(default_factory=list[tuple[Agent, Finding]])
    items: dict[str, list[Item]] = field(default_factory=dict[str, list[Item]])
    _trees: dict[tuple[str, ...], Path] = field(default_factory=dict[tuple[str, ...], Path])

    async def run(
        self,
        step: str,
        *,
        item: Item | None = None,
        earlier: Sequence[AgentResult] = (),
        status: StepStatus = "completed",
        thresholds: Thresholds | None = None,
    ) -> AgentResult:
        """One agent from measuring to its end; a looped agent is proposed the right tests."""
        agent = built_in().get(step.partition("#")[0])
        ctx = self._context(agent, step, item, earlier)
        if thresholds:
            ctx = replace(ctx, thresholds=thresholds)
        finding = await agent.measure(ctx)
        self.findings.append((agent, finding))
        if agent.loop and finding.state:
            state = finding.state
            for work in finding.work:
                proposal = TestProposal(tests=_TESTS[work.title])
                state = (await agent.loop.try_proposal(ctx, work.id, proposal, state)).state
            finding = await agent.loop.conclude(ctx, state, [])
            self.findings.append((agent, finding))
        return AgentResult(
            step=step,
            agent=agent.id,
            status=status,
            headline=finding.headline,
            decision=finding.decision,
            measured=finding.measurement,
            patch=finding.patch,
            items=finding.items,
        )

    def _context(
        self, agent: Agent, step: str, item: Item | None, earlier: Sequence[AgentResult]
    ) -> StepContext:
        patches = [result.patch for result in earlier if result.patch]

        @asynccontextmanager
        async def workspace() -> AsyncGenerator[Any]:
            yield LocalGround(await self._tree(patches), self.environment, self.sandbox)

        @asynccontextmanager
        async def unpatched() -> AsyncGenerator[Any]:
            yield LocalGround(await self._tree([]), self.environment, self.sandbox)

        async def keep_items(items: Sequence[Item]) -> ItemList:
            self.items[step] = list(items)
            return ItemList(source=step, count=len(items))

        return StepContext(
            run="r",
            workflow_id="w",
            step=step,
            options=agent.options(),
            thresholds=Thresholds(),
            earlier=earlier,
            artifacts=self.artifacts,
            workspace=workspace,
            unpatched=unpatched,
            catalogue=built_in(),
            keep_items=keep_items,
            item=item,
            patches=patches,
        )

    async def _tree(self, patches: Sequence[Digest]) -> Path:
        key = tuple(patches)
        if key not in self._trees:
            tree = self.base.parent / f"tree{len(self._trees)}"
            shutil.copytree(self.base, tree)
            await apply_patch(tree, combine_patches([await self.artifacts.get(patch) for patch in patches]))
            self._trees[key] = write_project(tree, {})
        return self._trees[key]


@pytest.fixture(scope="module")
async def fleet(
    tmp_path_factory: pytest.TempPathFactory, environment: Path, sandbox: Sandbox, postgres: ThrowAwayPostgres
) -> AsyncIterator[Fleet]:
    base = write_project(tmp_path_factory.mktemp("fleet") / "base", _FILES)
    async with postgres.database() as dsn, await open_pool(dsn) as pool:
        yield Fleet(base, environment, sandbox, Artifacts(pool))


@dataclass(frozen=True)
class Expanded:
    """coverage-analyzer, then test-generator and test-executor on each file, then coverage-analyzer."""

    split: AgentResult
    parts: list[Item]
    generated: list[AgentResult]
    executed: list[AgentResult]
    joined: AgentResult


@pytest.fixture(scope="module")
async def expanded(fleet: Fleet) -> Expanded:
    split = await fleet.run("coverage-analyzer#0")
    parts = fleet.items["coverage-analyzer#0"]
    generated: list[AgentResult] = []
    executed: list[AgentResult] = []
    for ordinal, item in enumerate(parts):
        made = await fleet.run(f"test-generator#1/{ordinal}", item=item, earlier=[split])
        generated.append(made)
        executed.append(await fleet.run(f"test-executor#2/{ordinal}", item=item, earlier=[split, made]))
    joined = await fleet.run("coverage-analyzer#3", earlier=[split, *generated])
    return Expanded(split, parts, generated, executed, joined)


async def test_files_with_gaps_are_parts_of_the_work(expanded: Expanded) -> None:
    """One item a source file with something uncovered, the one with most first, for people to read."""
    assert [(item.id, item.paths) for item in expanded.parts] == [
        ("planted/grades.py", ["planted/grades.py"]),
        ("planted/texts.py", ["planted/texts.py"]),
    ]
    assert expanded.parts[1].title == "planted/texts.py: 1 line, 0 branches missing"
    assert expanded.split.items == ItemList(source="coverage-analyzer#0", count=2)


async def test_a_part_gets_tests_of_its_own_files_only(fleet: Fleet, expanded: Expanded) -> None:
    """Two parts, two patches that add different files, and what was gained is told by part."""
    patches = [await fleet.artifacts.get(result.patch) for result in expanded.generated if result.patch]

    assert [added_files(patch) for patch in patches] == [
        ["tests/test_qe_planted_grades.py"],
        ["tests/test_qe_planted_texts.py"],
    ]
    assert [result.measured.value("generation.kept") for result in expanded.generated] == [2, 1]
    assert all(result.items is None for result in expanded.generated)


async def test_what_was_generated_for_a_part_is_executed(expanded: Expanded) -> None:
    """The test files that were added for the part, and no others."""
    assert [result.measured.value("tests.total") for result in expanded.executed] == [2, 1]
    assert expanded.executed[1].measured.details["command"].endswith("tests/test_qe_planted_texts.py")


async def test_all_patches_together_are_measured(expanded: Expanded) -> None:
    """Against what the first step measured, before anything was changed."""
    assert expanded.joined.measured.value("tests.total") == 5
    assert expanded.joined.measured.value("coverage.line_percent") == 100
    assert expanded.joined.measured.value("coverage.before.lines_covered") == expanded.split.measured.value(
        "coverage.lines_covered"
    )


async def test_a_part_without_new_tests_runs_nothing(fleet: Fleet, expanded: Expanded) -> None:
    """The whole suite once for each of ten thousand parts would say nothing about any of them."""
    covered = Item(id="planted/__init__.py", paths=["planted/__init__.py"])
    made = await fleet.run("test-generator#1/7", item=covered, earlier=[expanded.split])

    ran = await fleet.run("test-executor#2/7", item=covered, earlier=[expanded.split, made])

    assert made.headline == "nothing to gain: everything is covered in planted/__init__.py"
    assert ran.headline == "nothing was generated for this part, so nothing was run"
    assert {metric.kind for metric in ran.measured.metrics.values()} == {"unmeasured"}


async def test_test_files_are_parts_too(fleet: Fleet) -> None:
    """test-executor lists the suite's files, and on one of them runs it alone."""
    whole = await fleet.run("test-executor#0")
    (more, texts) = fleet.items["test-executor#0"]

    ran = await fleet.run("test-executor#1/0", item=more, earlier=[whole])

    assert (more.id, texts.id) == ("tests/test_more.py", "tests/test_texts.py")
    assert (whole.measured.value("tests.total"), ran.measured.value("tests.total")) == (2, 1)


async def test_a_part_that_names_no_file_is_the_whole(fleet: Fleet) -> None:
    """Nothing says which tests are its own."""
    ran = await fleet.run("test-executor#1/0", item=Item(id="fast"))

    assert ran.measured.value("tests.total") == 2


async def test_coverage_of_a_part(fleet: Fleet, expanded: Expanded) -> None:
    """Totals, gaps and what was before, of its files alone; a folder stands for all below it."""
    whole = await fleet.run("coverage-analyzer#1/0", item=Item(id="p", paths=["planted"]))
    part = await fleet.run(
        "coverage-analyzer#1/1", item=expanded.parts[1], earlier=[expanded.split, expanded.generated[1]]
    )

    assert CoverageTotals.model_validate(whole.measured.details["totals"]).lines_total == 10
    assert (part.measured.value("coverage.lines_total"), part.measured.value("coverage.line_percent")) == (
        4,
        100,
    )
    assert part.measured.value("coverage.before.lines_covered") == 3
    assert {gap["file"] for gap in whole.measured.details["gaps"]} == {
        "planted/grades.py",
        "planted/texts.py",
    }


async def test_generators_side_by_side_combine(fleet: Fleet, expanded: Expanded) -> None:
    """Two that knew nothing of each other wrote the same tests of a module: they are there once."""
    again = await fleet.run("test-generator#9/0", item=Item(id="grades", paths=["planted/grades.py"]))

    joined = await fleet.run("test-executor#10", earlier=[*expanded.generated, again])

    assert again.patch == expanded.generated[0].patch
    assert joined.measured.value("tests.total") == 5


async def test_failed_steps_and_items_close_the_gate(fleet: Fleet, expanded: Expanded) -> None:
    """What failed, was cancelled, or failed on some items is counted; its figures are not looked at."""
    summed = AgentResult(
        step="test-generator#1",
        agent="test-generator",
        status="completed",
        measured=Measurement(metrics={"items.failed": Measured(value=2, unit="items", tool=0)}),
    )
    cancelled = await fleet.run("test-executor#2", status="cancelled")
    skipped = AgentResult(step="test-executor#5", agent="test-executor", status="skipped")
    earlier = [expanded.split, summed, cancelled, skipped, expanded.joined]

    strict = await fleet.run("quality-gate#4", earlier=earlier)
    lenient = await fleet.run("quality-gate#4", earlier=earlier, thresholds=Thresholds(failed_steps_max=3))
    blind = await fleet.run("quality-gate#4", earlier=[cancelled], thresholds=Thresholds(failed_steps_max=1))

    assert strict.headline == "NO_GO: steps.failed is 3, at most 0 asked"
    assert lenient.decision is Decision.GO
    assert blind.headline == "NO_GO: tests.failed is not measured: no tool measured it"


async def test_requirements_are_parts_of_the_work(fleet: Fleet) -> None:
    """Each is listed with where it stands; that nothing tests one is a figure, too."""
    found = await fleet.run("requirements-validator#0")

    assert found.headline == "0 of 1 requirements pass their tests, 1 have none"
    assert [(item.name, item.paths) for item in fleet.items["requirements-validator#0"]] == [
        ("REQ-1: Tidy", ["features/texts.feature"])
    ]
    assert (found.measured.value("requirements.total"), found.measured.value("requirements.traced")) == (1, 0)


async def test_every_metric_is_declared_with_its_unit(fleet: Fleet, expanded: Expanded) -> None:
    """Over all that the tests of this file have run: conditions are checked against nothing else."""
    del expanded
    assert {agent.id for agent, _ in fleet.findings} >= {
        "requirements-validator",
        "test-generator",
        "test-executor",
        "coverage-analyzer",
    }
    for agent, finding in fleet.findings:
        units = {measure.name: measure.unit for measure in agent.measures}
        assert undeclared(agent, finding.measurement) == []
        for name, metric in finding.measurement.metrics.items():
            assert not isinstance(metric, Measured) or metric.unit == units[name]
