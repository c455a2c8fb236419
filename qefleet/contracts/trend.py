"""How figures have changed since an agent's last result on the same project."""

from __future__ import annotations

from collections.abc import Mapping

from qefleet.contracts.base import Model
from qefleet.contracts.measured import Measured, Measurement, Metric


class Change(Model):
    """A figure that is another one than the last time."""

    metric: str
    before: float
    now: float


class Trend(Model):
    """What has changed since the last result."""

    changes: list[Change] = []
    """Of the figures that both have; none where all are equal."""
    other_versions: list[str] = []
    """Tools that were of another version then, such as `ruff 0.14.1`: their figures compare badly."""


def trend(last: Measurement, metrics: Mapping[str, Metric], versions: Mapping[str, str]) -> Trend:
    """Hold figures against those of the last result.

    Args:
        last: The last result's.
        metrics: This one's.
        versions: By tool, of this one.
    """
    now = {name: metric.value for name, metric in metrics.items() if isinstance(metric, Measured)}
    before = {name: last.value(name) for name in now}
    return Trend(
        changes=[
            Change(metric=name, before=then, now=now[name])
            for name in sorted(now)
            if (then := before[name]) is not None and then != now[name]
        ],
        other_versions=sorted(
            {
                f"{run.tool} {run.version}"
                for run in last.tools
                if versions.get(run.tool, run.version) != run.version
            }
        ),
    )
