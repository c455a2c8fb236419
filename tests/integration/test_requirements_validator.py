"""Requirements of a planted project, traced to the outcomes of a real suite run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted_project import write_project

from qefleet.agents.requirements_validator import RequirementsJudgement, check_scenarios
from qefleet.contracts.requirements import Requirement
from qefleet.testing.ground import LocalGround
from qefleet.tools.requirements import read_requirements, trace
from qefleet.tools.running.junit import read_cases
from qefleet.tools.running.suite import run_suite
from qefleet.workspace.sandbox import Sandbox

_FEATURE = """Feature: Grades
  Rule: Marks

    @REQ-1 @slow
    Scenario: Good marks
      Given 95 points
      Then the grade is A

  @REQ-1
  Scenario: Better marks
    Given 99 points

  @REQ-2
  Scenario Outline: Bad marks
    Given <points> points
    Examples:
      | points |
      | 1      |

  Scenario: Nobody asked
    Given nothing
"""
_TESTS = """import pytest


@pytest.mark.requirement("REQ-1")
@pytest.mark.parametrize("points", [95, 99])
def test_good(points):
    assert points > 90


@pytest.mark.requirement("REQ-2", "REQ-9")
def test_bad():
    assert False


class Scenario:
    name = "Nobody asked"


def test_nobody():
    pytest.skip("later")


test_nobody.__scenario__ = Scenario
"""
_FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["requirement(*ids): what it is about"]\n',
    "grades.py": "A = 1\n",
    "features/grades.feature": _FEATURE,
    "features/broken.feature": "As a user I want\n",
    "tests/test_grades.py": _TESTS,
}


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


async def test_requirements_are_traced_to_real_outcomes(ground: LocalGround) -> None:
    """By marker and by scenario; a failing or a skipped test is no pass; what no feature has is named."""
    requirements, unreadable = read_requirements(ground.project)
    run = await run_suite(ground, coverage=False)

    traces, unknown = trace(requirements, read_cases(run.artifact("junit.xml")) or [])

    name = "features/grades.feature:Nobody asked"
    rows = {row.requirement.id: [(test.node_id[20:], test.outcome) for test in row.tests] for row in traces}
    assert rows == {
        "REQ-1": [("::test_good[95]", "passed"), ("::test_good[99]", "passed")],
        "REQ-2": [("::test_bad", "failure")],
        name: [("::test_nobody", "skipped")],
    }
    assert {row.requirement.id: row.passed for row in traces} == {"REQ-1": True, "REQ-2": False, name: False}
    assert unknown == ["REQ-9"]
    assert [text.partition(":")[0] for text in unreadable] == ["features/broken.feature"]


def test_scenarios_with_one_id_are_one_requirement(ground: LocalGround) -> None:
    """Read in order, also those within rules and outlines, with their steps."""
    first, *_ = read_requirements(ground.project)[0]

    assert first == Requirement(
        id="REQ-1",
        title="Good marks",
        path="features/grades.feature",
        line=5,
        text="Grades: Good marks\nGiven 95 points\nThen the grade is A\n\n"
        "Grades: Better marks\nGiven 99 points",
        scenarios=["Good marks", "Better marks"],
    )


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        ("Scenario: None\n  Given 0 points\n  Then the grade is C", None),
        ("Scenario: One\nGiven a\nScenario: Two\nGiven b", None),
        ("Zero points get a C", "scenarios.0: write"),
        ("Scenario: Empty", "scenarios.0: write"),
        ("", "scenarios.0: write"),
        ("Scenario: X\n  Perhaps 0 points", "scenarios.0: "),
    ],
)
def test_proposed_scenarios_are_gherkin(scenario: str, reason: str | None) -> None:
    """What a model writes as a scenario can be put into a feature file as it is."""
    given = {
        **dict.fromkeys(("independent", "negotiable", "valuable", "estimable", "small", "testable"), True),
        "id": "REQ-1",
        "ambiguities": [],
        "scenarios": [scenario],
    }
    judgement = RequirementsJudgement.model_validate({"requirements": [given]})
    unused: Any = None

    if reason is None:
        check_scenarios(unused, judgement)
    else:
        with pytest.raises(ValueError, match=reason):
            check_scenarios(unused, judgement)
