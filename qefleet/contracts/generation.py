"""Generating tests: segments, what is still open, what was kept, and why the rest was not."""

from __future__ import annotations

from enum import StrEnum

from qefleet.contracts.base import Model


class Filter(StrEnum):
    """The six filters, in the order in which a proposed test meets them."""

    STATIC = "static"
    """Its syntax tree: it asserts something, skips nothing, and its imports resolve."""
    RUNS = "runs"
    """Five fresh sandboxed processes pass and leave the project's files alone."""
    REPORT = "report"
    """Each run wrote a JUnit file with this test in it, not skipped."""
    GAIN = "gain"
    """It reaches lines or branches that nothing reached before it."""
    MUTANTS = "mutants"
    """It kills at least one mutant that nothing killed before it."""
    SUITE = "suite"
    """The whole suite still passes with it."""


class Segment(Model):
    """A piece of source of at most 50 lines for which tests are wanted."""

    id: str
    """Stable: module, qualified name, and the first line for a piece of a long function."""
    file: str
    """Relative to the project."""
    module: str
    """As it is imported."""
    qualname: str
    """`redundant`, `Stats.describe`."""
    start_line: int
    end_line: int
    source: str
    """The lines themselves; a piece of a long function is preceded by its signature."""
    missing_lines: list[int]
    missing_branches: list[tuple[int, int]]
    parameters: list[str] = []
    class_header: str = ""
    """For a method: its class statement and how it is constructed."""
    import_line: str
    """The import with which a test reaches it."""
    score: float = 0.0

    def has(self, path: str, line: int) -> bool:
        """Whether a place is in it."""
        return path == self.file and self.start_line <= line <= self.end_line


class Gain(Model):
    """Lines and branches of one file that a test reached first."""

    file: str
    lines: list[int] = []
    branches: list[tuple[int, int]] = []


class KeptTest(Model):
    """A test that passed every filter, in pieces, so that many can be merged into one readable file."""

    name: str
    segment: str
    module: str
    imports: list[str]
    """Import statements, one a line."""
    helpers: list[str] = []
    """Source of the helpers, fixtures and constants that it uses, in their order."""
    source: str
    """The test function (or class) itself."""
    gains: list[Gain] = []
    mutants_killed: int = 0
    mutants_tried: int = 0


class Verdict(Model):
    """What the filters said about one proposed test."""

    test: str
    segment: str
    kept: bool
    filter: Filter | None = None
    """The one that rejected it; null when kept."""
    reason: str = ""
    feedback: str = ""
    """For whoever proposed it: the failing assertion or the end of the traceback."""
    gained_lines: int = 0
    gained_branches: int = 0
    mutants_killed: int = 0
    mutants_tried: int = 0
    runs: int = 0
    """Sandboxed runs that were spent on it."""
    duration_s: float = 0.0
    notes: list[str] = []


class GenerationState(Model):
    """All that a round of generation needs to know of the rounds before it.

    A value: a round takes one and returns the next, and a round that is run again from the same
    state and proposal starts from the same place.
    """

    open_lines: dict[str, list[int]]
    """By file: statements that no test reaches yet."""
    open_branches: dict[str, list[tuple[int, int]]]
    kept: list[KeptTest] = []
    base_total: int
    """Tests that the project's own suite ran."""
    base_failing: list[str] = []
    """Node ids that failed before anything was generated; they may go on failing."""
    base_duration_s: float
    order_seed: int | None = None
    """Seed of the order in which the whole suite is run; null for the project's own order."""
    proposed: int = 0
    rejected: dict[Filter, int] = {}
    mutants_killed: int = 0
    mutants_total: int = 0
    notes: list[str] = []


class GenerationDetails(Model):
    """The `details` of `test-generator`."""

    proposed: int
    kept: int
    rejected: dict[Filter, int]
    verdicts: list[Verdict] = []
    """At most 50, in the order in which they were judged; the artifact has up to 200, with feedback."""
    files: list[str] = []
    """Test files that the patch adds."""
    mutants_killed: int = 0
    mutants_total: int = 0
    generator: str = ""
    """Who wrote the proposals: a model's name, or the tool that did without one."""
    notes: list[str] = []
