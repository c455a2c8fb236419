"""What visual-tester finds: how pages look, what has changed in them, whom they shut out."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Digest, Model
from qefleet.contracts.issues import Issue

BaselineFrom = Literal["project", "base", "last"]
"""Kept in the project, shot of the base in diff mode, or left by this agent's last run."""


class Box(Model):
    """A rectangle of a screenshot, in CSS pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int


class Shot(Model):
    """One page at one viewport."""

    page: str
    viewport: str
    """Width and height, such as `390x844`."""
    name: str
    """Of the image among the artifacts, and of its baseline in the project's folder."""
    digest: Digest
    steady: bool
    """Two screenshots in a row were equal; what never comes to rest can differ without a change."""


class Change(Model):
    """How a screenshot differs from its baseline."""

    issue: str
    """The id of the issue that tells of it."""
    page: str
    viewport: str
    baseline: BaselineFrom
    pixels: int
    share_percent: float
    """Of the larger picture's pixels."""
    box: Box
    """Around all that differs."""
    difference: str
    """Name of the image, among the artifacts, where what differs is red."""


class VisualDetails(Model):
    """The measurement of visual-tester."""

    pages: list[str] = []
    shots: list[Shot] = []
    changes: list[Change] = []
    without_baseline: list[str] = []
    """Names of the images that were shot for the first time: the next run's baselines."""
    not_loaded: list[str] = []
    """What pages asked for and didn't get; nothing outside of the sandbox can be reached."""
    issues: list[Issue] = []
