"""What one run of a project's test suite gave: the typed `details` of `test-executor`."""

from __future__ import annotations

from enum import StrEnum

from qefleet.contracts.base import Model


class SuiteOutcome(StrEnum):
    """How a run of a suite ended, told from its exit code and its JUnit file together."""

    PASSED = "passed"
    FAILED = "failed"
    """Tests ran and some failed."""
    COLLECTION_FAILED = "collection_failed"
    """Test files could not even be imported."""
    NO_TESTS = "no_tests"
    """There was nothing to run."""
    TIMED_OUT = "timed_out"
    UNREPORTED = "unreported"
    """The run ended without a usable report: the process was killed, or the options are wrong."""


class SuiteCounts(Model):
    """Tests by their outcome, as the JUnit file counts them."""

    total: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    """Tests whose set-up or tear-down broke, and files that could not be imported."""
    skipped: int = 0
    """Expected failures (xfail) are among them."""


class FailingTest(Model):
    """A test that did not pass."""

    node_id: str
    """As pytest takes it on its command line, such as `tests/test_a.py::test_b[1]`."""
    kind: str
    """`failure`, or `error` for set-up, tear-down and collection."""
    message: str
    """The error's own words, then the end of the traceback; at most 2,000 characters."""


class ExecutionDetails(Model):
    """A suite's run in full: the `details` of `test-executor`."""

    outcome: SuiteOutcome
    counts: SuiteCounts
    failing: list[FailingTest] = []
    """At most 50; `counts` has the whole number."""
    failed_before: list[str] = []
    """In diff mode: those of them that failed in the base too."""
    duration_s: float
    order_seed: int | None = None
    """Seed of the random order in which the tests ran; null for the project's own order."""
    command: str
    """What a person types in a clean checkout to get the same figures."""
    sources: list[str] = []
    """What coverage was measured on: packages and modules of the project."""
    notes: list[str] = []
