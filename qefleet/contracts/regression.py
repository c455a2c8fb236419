"""What a change can break, and which tests could tell: the `details` of `regression-risk-analyzer`."""

from __future__ import annotations

from enum import StrEnum

from qefleet.contracts.base import Model
from qefleet.contracts.changes import LineRange


class Why(StrEnum):
    """Why a test is selected, the strongest first."""

    CHANGED = "changed"
    """It is new, or it has changed itself."""
    REACHES = "reaches"
    """In the base it ran code that has changed."""
    IMPORTS = "imports"
    """Its file imports a changed module, or it ran code of a module that changed outside of its functions."""
    INDIRECT = "indirect"
    """It ran code of a module, or its file is one, that imports such a module through others."""
    SURROUNDINGS = "surroundings"
    """A file changed that no import tells about: configuration, conftest or data."""


class SelectedTest(Model):
    """A test to run for this change."""

    node_id: str
    why: Why
    because: list[str]
    """What it has to do with: `path:function`, or a path; at most 5."""


class ChangedFile(Model):
    """A file that differs from the base, and how far that reaches."""

    path: str
    change: str
    """`added`, `deleted` or `modified`."""
    kind: str
    """`source`, `test`, `module` (other Python), `conftest`, `configuration`, `data`, or `other`."""
    lines: int = 0
    """Changed lines, as git counts them."""
    functions: list[str] = []
    """Changed or removed functions and methods, at most 50."""
    beyond_functions: bool = False
    """What is executed on import has changed too."""
    tests: int = 0
    """Selected because of this file."""
    importers: int = 0
    """Files that import it, directly or through others."""
    uncovered: list[LineRange] = []
    """Changed statements that no selected test reaches."""
    commits: int | None = None
    """That touched it before, as far as the history was read; null where there is none."""
    note: str = ""


class RegressionDetails(Model):
    """The `details` of `regression-risk-analyzer`."""

    files: list[ChangedFile] = []
    """The riskiest first: with uncovered changes, then by what they reach; at most 200."""
    selected: list[SelectedTest] = []
    """At most 200, the most telling first; the artifact `selected-tests.txt` has all."""
    left_out: list[str] = []
    """At most 200; the artifact `left-out-tests.txt` has all."""
    why_left_out: str = ""
    tests: int = 0
    failing: list[str] = []
    """Selected tests that fail now."""
    unattributed: list[str] = []
    """Changed files of which no tool tells which tests could notice."""
    notes: list[str] = []
