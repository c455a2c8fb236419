"""Whether a project can be released as it is: the typed `details` of `deployment-readiness`."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue


class Check(Model):
    """One line of the checklist."""

    id: str
    """Such as `wheel-installs`."""
    asks: str
    """What has to hold."""
    status: Literal["passed", "failed", "unmeasured"]
    blocks: bool
    """Nothing is to be released where this fails, or where nobody knows."""
    why: str = ""
    """What was found, or the reason why nobody knows."""


class ReadinessHistory(Model):
    """How the checklist differs from that of the latest run before."""

    version: str | None
    """Of that run's distributions."""
    mended: list[str]
    """Ids of checks that failed then and pass now."""
    broken: list[str]
    """Ids of checks that fail now and didn't then."""


class ReadinessDetails(Model):
    """The `details` of `deployment-readiness`."""

    name: str | None
    version: str | None
    """What the wheel says of itself."""
    distributions: list[str]
    """File names."""
    checks: list[Check]
    issues: list[Issue]
    """The failed checks of what was built, for reports."""
    licences: dict[str, str]
    """By distribution, of what the project needs when it runs."""
    history: ReadinessHistory | None = None
