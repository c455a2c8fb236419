"""What production-intelligence finds in logs and in the history of a test suite."""

from __future__ import annotations

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.issues import Issue


class Template(Model):
    """Log lines that differ only in what varies: `<n>` a number, `<*>` a word, and so on."""

    id: str
    """From its text, so that it is the same in the next run."""
    text: str
    path: str
    line: int
    """Where it is first."""
    events: int
    errors: int
    """Of the events, those whose level or status says so."""
    new: bool = False
    """First seen in the last part of the log."""


class Anomaly(Model):
    """Buckets of time, one after the other, with more or fewer events than those around them."""

    id: str
    series: str
    """A template's id, or `all` or `errors`."""
    begins: str
    ends: str
    observed: int
    expected: float
    """By the median of the buckets around."""
    p: float
    """Of the least likely of its buckets: the doubled tail of a Poisson distribution, of a negative binomial
    one where the series varies more than that; of few events the binomial tail."""


class ChangePoint(Model):
    """A rate that changed and stayed so."""

    id: str
    series: str
    at: str
    bucket: int
    before: float
    after: float
    """Events in a bucket, on average of the stretches up to the next change."""
    p: float
    """At most: Chernoff's bound, times the number of places where it could have been."""


class NewlyFailing(Model):
    """A test that passed in each run, then failed in each."""

    test: str
    failing_runs: int
    passing_runs: int
    p: float
    """Of so many failures in a row, had it failed as rarely as before (rule of succession)."""


class SlowedTest(Model):
    """A test whose latest runs took longer than those before, beyond what it varies."""

    test: str
    before_s: float
    after_s: float
    """Medians."""
    z: float
    """Of the difference, by the median absolute deviation of the runs before."""


class FailingTestRate(Model):
    """How often a test failed."""

    test: str
    runs: int
    failures: int


class Incident(Model):
    """An exception that logs tell of, with the function of the project that it came from."""

    id: str
    exception: str
    message: str
    """With numbers, names and quotations masked."""
    path: str
    """Of the project's file."""
    line: int
    """As the log says: the code may have moved since."""
    function: str
    module: str
    """By which it is imported."""
    events: int
    log: str
    log_line: int
    """Where a traceback of it is first."""


class Reproduction(Model):
    """What became of a test that was proposed for an incident."""

    incident: str
    reproduced: bool
    """It failed in each of its runs, by the incident's exception, out of the incident's function."""
    reason: str
    runs: int
    test: Digest
    """The artifact with its source."""


class ProductionDetails(Model):
    """The measurement of production-intelligence."""

    files: list[str] = []
    begins: str | None = None
    bucket_s: int | None = None
    buckets: int = 0
    """Whole ones; what is left over at the end is in no statistic."""
    templates: list[Template] = []
    """Those with errors first, then the most frequent."""
    unknown_before: list[str] = []
    """Ids of templates that the last run of this agent didn't have; none where there was no such run."""
    anomalies: list[Anomaly] = []
    change_points: list[ChangePoint] = []
    incidents: list[Incident] = []
    """The most frequent first."""
    reproductions: list[Reproduction] = []
    """Of each incident that a test was proposed for, the last."""
    junit_files: list[str] = []
    """Oldest first."""
    newly_failing: list[NewlyFailing] = []
    slowed: list[SlowedTest] = []
    failing: list[FailingTestRate] = []
    """Of all that ever failed, the most often failing first."""
    issues: list[Issue] = []
