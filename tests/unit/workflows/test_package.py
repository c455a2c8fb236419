"""The top-level packages are ours."""

from __future__ import annotations

from pathlib import Path

import activities
import worker
import workflows

ROOT = Path(__file__).parents[3]


def test_top_level_packages_are_ours() -> None:
    """Another distribution ships a package `workflows`: it isn't the one that is imported."""
    folders = [Path(str(package.__file__)).parent for package in (workflows, activities, worker)]

    assert folders == [ROOT / "workflows", ROOT / "activities", ROOT / "worker"]
