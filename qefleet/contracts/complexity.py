"""How complex functions are: the typed `details` of `code-complexity`."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue
from qefleet.contracts.trend import Trend

Kind = Literal["cyclomatic", "cognitive"]


class FunctionComplexity(Model):
    """One function or method, by both kinds of complexity, which are never mixed."""

    id: str
    """Its file and name, such as `pkg/a.py:Class.method`; a second one of the name gets `#2`."""
    path: str
    line: int
    end_line: int
    cyclomatic: int | None = None
    """By radon: independent paths, those of nested functions not counted."""
    cognitive: int | None = None
    """By complexipy: with nested functions; null for these, which belong to the one around them."""

    def of(self, kind: Kind) -> int | None:
        """Its complexity of one kind."""
        return self.cyclomatic if kind == "cyclomatic" else self.cognitive


class Growth(Model):
    """A function that is more complex than it was."""

    function: str
    kind: Kind
    before: int
    now: int


class FileMaintainability(Model):
    """Radon's maintainability index of a file, from 0 to 100, the higher the better."""

    path: str
    maintainability: float


class ComplexityDetails(Model):
    """The `details` of `code-complexity`."""

    issues: list[Issue]
    """Functions over a threshold, at most 200."""
    thresholds: dict[Kind, int]
    worst: list[FunctionComplexity]
    """The most complex functions of either kind, by turns."""
    grown: list[Growth] = []
    """Functions that were less complex in the last result, at most 50."""
    grown_since_base: list[Growth] = []
    """In diff mode: changed functions that are less complex in the base, at most 50."""
    least_maintainable: list[FileMaintainability]
    unreadable: list[str]
    """Source files that could not be analysed, with the reason."""
    trend: Trend | None = None
    """Null where there is no last result."""
