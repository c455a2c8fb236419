"""What load, benchmarks and a profile said about a system's speed. Times are milliseconds."""

from __future__ import annotations

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue


class PathLoad(Model):
    """What the requests of one path, or all of them, came to under load.

    Times are as locust keeps them: whole milliseconds, and two significant digits from 100 ms on.
    """

    id: str
    """Such as `GET /slow`; `all` for all paths together."""
    requests: int
    failures: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rps: float
    """Requests a second that were answered, failures too."""
    over: list[str] = []
    """Thresholds that it exceeds, such as `p95_ms`."""

    @property
    def error_percent(self) -> float:
        """Share of the requests that failed."""
        return 100 * self.failures / self.requests


class Benchmark(Model):
    """One benchmark of the suite, and what it was in the run before."""

    id: str
    """Its node id."""
    median_ms: float
    iqr_ms: float
    before_ms: float | None = None
    """Its median in the last run on the same kind of machine; null where there was none."""
    regressed: bool = False
    """Slower than before by more than the threshold, beyond both runs' noise, and so again when run anew."""


class HotFunction(Model):
    """A function of the project in which the system's threads were found while under load."""

    id: str
    """Such as `app.py:12 in slow`: the function's first line."""
    share_percent: float
    """Of the samples that were taken in the project's code."""


class PerformanceDetails(Model):
    """All that performance-tester found."""

    total: PathLoad | None = None
    paths: list[PathLoad] = []
    before: dict[str, float] = {}
    """The load's metrics of the last run on the same project, by name."""
    benchmarks: list[Benchmark] = []
    profile: list[HotFunction] = []
    """From a second, shorter run, made only where a threshold was exceeded: the slowest first."""
    issues: list[Issue] = []
