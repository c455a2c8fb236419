"""Tests that don't always tell the same: the typed `details` of `flaky-test-hunter`."""

from __future__ import annotations

from enum import StrEnum

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue


class Kind(StrEnum):
    """Why a test fails some of the time; durable names."""

    BROKEN = "broken"
    """It never passes, alone neither: not flaky."""
    INTERMITTENT = "intermittent"
    """By itself: alone in a fresh process, or in the same order again, it comes out differently."""
    ORDER = "order-dependent"
    """By what ran before it: after `partners` it fails, or fails without them."""
    HASH_SEED = "hash-seed-dependent"
    """By `PYTHONHASHSEED`, on which the order of sets depends."""
    UNEXPLAINED = "unexplained"
    """Flaky; there was no time, or no run left, to find out why."""


class TestCounts(Model):
    """How one test came out, over all runs that were usable."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    node_id: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    message: str = ""
    """Of the first failure: the error's own words, then the end of the traceback."""


class FlakyTest(Model):
    """A test that failed, with what its failing depends on."""

    node_id: str
    kind: Kind
    path: str
    line: int | None = None
    """Where its function begins."""
    passed: int
    failed: int
    """Runs of the whole suite in which it did."""
    rate_low: float
    rate_high: float
    """95 % confidence interval of the share of runs in which it fails (Wilson's), 0 to 1."""
    alone_passed: int = 0
    alone_failed: int = 0
    """Runs of this test alone, in fresh processes."""
    partners: list[str] = []
    """For one that depends on order: the tests whose running before it changes how it comes out."""
    needs_partners: bool = False
    """It passes only after them; without it: it fails only after them."""
    explanation: str = ""
    message: str = ""
    known: bool = False
    """The last run on this project found it too."""
    hash_seed: int = 0
    order_seed: int | None = None
    """Of the first run in which it failed, to have it fail again; null for the project's own order."""


class Mend(Model):
    """A proposed new source of a flaky test, and what running it has shown."""

    node_id: str
    source: str
    kept: bool
    runs: int = 0
    """Fresh processes in which it ran; all of them passed where it was kept."""
    reason: str
    """Why it was refused, or what the runs can tell."""


class FlakyDetails(Model):
    """The `details` of `flaky-test-hunter`."""

    runs_asked: int
    runs: int
    """Done and usable: the suite came to its end and left a report."""
    unusable: list[str] = []
    """Why other runs didn't count."""
    tests: int
    """That ran in at least one."""
    not_always_there: int = 0
    """Tests that some of the runs did not have: their names change, or they come and go."""
    found: list[FlakyTest] = []
    """At most 100, the broken last."""
    gone: list[str] = []
    """Flaky in the last run on this project, and passing in all runs of this one."""
    power: str
    """What that many runs can and can't tell."""
    quarantine: list[str] = []
    """Node ids of the flaky tests; also in the artifacts `quarantine.txt` and `quarantine.json`."""
    mends: list[Mend] = []
    """Proposed by a model, in their order; those that were kept are in the run's patch."""
    issues: list[Issue] = []
    notes: list[str] = []
