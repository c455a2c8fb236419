"""Requirements, and the tests that trace to them: the typed `details` of `requirements-validator`."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model


class Requirement(Model):
    """What the project says that it does: a scenario of a feature file, or several with one id."""

    id: str
    """Its tag, such as `REQ-12`; else its file and name."""
    title: str
    path: str
    line: int
    text: str
    """The feature's name, and the steps as they are written."""
    scenarios: list[str]
    """Names of its scenarios, by which tests may refer to it too."""


class TracedTest(Model):
    """A test that says it is about a requirement, and how it came out."""

    node_id: str
    outcome: Literal["passed", "skipped", "failure", "error"]


class Trace(Model):
    """A requirement's row in the matrix."""

    requirement: Requirement
    tests: list[TracedTest]

    @property
    def passed(self) -> bool:
        """Some test is about it, and each of them ran and passed."""
        return bool(self.tests) and all(test.outcome == "passed" for test in self.tests)


class RequirementsDetails(Model):
    """The `details` of `requirements-validator`."""

    traces: list[Trace]
    """At most 200; the artifact has all."""
    unknown: list[str]
    """Ids that tests name and no feature file has."""
    unreadable: list[str]
    """Feature files that are no Gherkin, with the reason."""
