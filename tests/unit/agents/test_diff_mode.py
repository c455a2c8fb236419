"""What test-generator works on when only a change matters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qefleet.agents.agent import StepContext
from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import undeclared
from qefleet.agents.test_generator import TestGeneratorOptions, segments_to_cover
from qefleet.contracts.changes import Changes
from qefleet.contracts.generation import GenerationState
from qefleet.contracts.issues import Issue
from qefleet.contracts.learning import Order
from qefleet.contracts.measured import Measurement
from qefleet.contracts.runs import AgentResult, Thresholds
from qefleet.tools.running.diff import diff_metrics


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two modules, three untested functions."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "a.py").write_text("def one(x):\n    return x\n\n\ndef two(x):\n    return x + 1\n")
    (tmp_path / "pkg" / "b.py").write_text("def three(x):\n    return x\n")
    return tmp_path


def _context(changes: Changes | None, *, max_segments: int = 12) -> StepContext:
    unused: Any = None
    return StepContext(
        run="r",
        workflow_id="w",
        step="test-generator#0",
        options=TestGeneratorOptions(max_segments=max_segments),
        thresholds=Thresholds(),
        earlier=[],
        artifacts=unused,
        workspace=unused,
        unpatched=unused,
        catalogue=unused,
        keep_items=unused,
        changes=changes,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (None, ["one", "three", "two"]),
        (Changes({"pkg/a.py": [(6, 6)], "README.md": [(1, 9)]}), ["two"]),
        (Changes({"pkg/a.py": [(1, 6)], "pkg/b.py": [(1, 1)]}), ["one", "three", "two"]),
        (Changes({"pkg/a.py": [(3, 4)]}), []),
        (Changes({}), []),
    ],
)
def test_only_functions_with_a_changed_line_are_worked_on(
    project: Path, changes: Changes | None, expected: list[str]
) -> None:
    """All that are uncovered, outside of diff mode."""
    state = GenerationState(
        open_lines={"pkg/a.py": [2, 6], "pkg/b.py": [2]}, open_branches={}, base_total=1, base_duration_s=1
    )

    found = segments_to_cover(_context(changes), project, state)

    assert sorted(segment.qualname for segment in found) == expected
    assert len(segments_to_cover(_context(changes, max_segments=1), project, state)) == min(1, len(expected))


def test_what_agents_before_found_risky_is_worked_on_first(project: Path) -> None:
    """The most complex function goes before the one that is merely uncovered."""
    state = GenerationState(
        open_lines={"pkg/a.py": [2, 6], "pkg/b.py": [2]}, open_branches={}, base_total=1, base_duration_s=1
    )
    issue = Issue(
        id="x", tool="radon", rule="cyclomatic", severity="medium", message="x", path="pkg/b.py", line=1
    )
    earlier = AgentResult(
        step="code-complexity#0",
        agent="code-complexity",
        status="completed",
        measured=Measurement(details={"issues": [issue.model_dump()]}),
    )

    plain = segments_to_cover(_context(None), project, state)
    risky = segments_to_cover(replace(_context(None), earlier=[earlier]), project, state)
    gain = segments_to_cover(replace(_context(None), earlier=[earlier], order=Order.GAIN), project, state)

    assert [segment.qualname for segment in plain] == ["one", "two", "three"]
    assert [segment.qualname for segment in risky] == ["three", "one", "two"]
    assert gain == plain


def test_figures_of_diff_mode_are_declared() -> None:
    """Conditions may ask for them."""
    found = Measurement(metrics=diff_metrics(None, tool=0, reason="no run"))

    assert undeclared(built_in().get("coverage-analyzer"), found) == []
    assert undeclared(built_in().get("quality-gate"), found) == []
