"""What a project promises to those who use it: the typed `details` of `api-contract-validator`."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue

Baseline = Literal["base", "last run"]
"""What the API was held against: the base of diff mode, or what this agent last saw of the project."""


class Surface(Model):
    """One description of what is promised: the Python API, or the OpenAPI descriptions."""

    names: list[str]
    """Packages and modules, or paths of descriptions."""
    version: str | None = None
    """As the project or the description itself says."""
    version_before: str | None = None
    baseline: Baseline | None = None
    """Null where there is nothing to hold it against."""
    announced: bool = False
    """The version was raised as semantic versioning asks of a breaking change: its first number, or
    before 1.0 its second."""


class Failure(Model):
    """One kind of answer that breaks the description, at one operation."""

    operation: str
    """Method and path, such as `GET /items/{id}`."""
    check: str
    """schemathesis' code and title, such as `ST101 Server error`."""
    example: str
    """A request that showed it: method and target."""
    message: str


class ApiDetails(Model):
    """The `details` of `api-contract-validator`."""

    issues: list[Issue]
    """Breaking changes, and answers that break the description; at most 200."""
    python: Surface | None
    """Null without a package or module."""
    openapi: Surface | None
    """Null without a description."""
    not_compared: list[str]
    """Parts of descriptions that a comparison by the clear cases alone leaves out."""
    failures: list[Failure]
    """At most 100."""
    tested: str | None
    """What answered the requests: the application, the command or the origin."""
