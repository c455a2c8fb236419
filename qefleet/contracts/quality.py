"""What static analysis finds: the typed `details` of `quality-analyzer`."""

from __future__ import annotations

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue
from qefleet.contracts.trend import Trend


class FileDocstrings(Model):
    """How much of a file is documented."""

    path: str
    documented: int
    definitions: int
    """The module itself, its classes and its functions, as interrogate counts them."""

    @property
    def missing(self) -> int:
        """Definitions without a docstring."""
        return self.definitions - self.documented


class QualityDetails(Model):
    """The `details` of `quality-analyzer`."""

    issues: list[Issue]
    """At most 200, new ones first, then the most severe; the artifact `issues.json` has all."""
    rules: dict[str, int]
    """How many issues there are by `tool/rule`, those that aren't listed too."""
    checked_by: dict[str, str]
    """By tool, what configured it: a file of the project's, or the fleet's own rules."""
    undocumented: list[FileDocstrings]
    """The files that lack most docstrings, at most 20."""
    unreadable: list[str]
    """Source files that are no Python of the fleet's version, with the reason; some tools leave them out."""
    trend: Trend | None = None
    """Null where there is no last result."""
