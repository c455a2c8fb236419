"""What a scan for weaknesses found: the typed `details` of `security-scanner`."""

from __future__ import annotations

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue


class SinceLast(Model):
    """How the issues differ from those of the latest run before."""

    appeared: list[str]
    """Ids of this run's."""
    gone: list[str]
    """Ids of that run's."""


class SecurityDetails(Model):
    """The `details` of `security-scanner`."""

    issues: list[Issue]
    """At most 500, the most severe first."""
    agreed: int
    """Issues in the code that bandit and ruff have both found; each stands once."""
    suppressed: int
    """Lines that comments in the code (`nosec`) take out of bandit's sight."""
    in_tests: int
    """What was found in the code of tests, and isn't counted."""
    unread: list[str]
    """Files that can't be parsed."""
    pins: list[str]
    """What the advisory service was asked about, such as `jinja2==3.1.6`."""
    since_last: SinceLast | None = None
