"""What a test reaches that nothing reached before it, and the state after it."""

from __future__ import annotations

from collections.abc import Sequence

from qefleet.contracts.coverage import CoverageReport
from qefleet.contracts.generation import Gain, GenerationState


def find_gain(report: CoverageReport, state: GenerationState) -> list[Gain]:
    """Compare a run with what is still open; files without gain are left out.

    Args:
        report: Coverage of the one test, at least for the files that it reached.
        state: Lines and branches that nothing reached so far.
    """
    gains: list[Gain] = []
    for file in report.files:
        missing_lines = set(file.missing_lines)
        missing_branches = set(file.missing_branches)
        lines = [line for line in state.open_lines.get(file.path, ()) if line not in missing_lines]
        branches = [pair for pair in state.open_branches.get(file.path, ()) if pair not in missing_branches]
        if lines or branches:
            gains.append(Gain(file=file.path, lines=lines, branches=branches))
    return gains


def merge_gain(
    state: GenerationState, gains: Sequence[Gain]
) -> tuple[dict[str, list[int]], dict[str, list[tuple[int, int]]]]:
    """Open lines and branches without what was gained."""
    lines, branches = dict(state.open_lines), dict(state.open_branches)
    for gain in gains:
        lines[gain.file] = [line for line in lines.get(gain.file, []) if line not in set(gain.lines)]
        branches[gain.file] = [pair for pair in branches.get(gain.file, []) if pair not in set(gain.branches)]
    return (
        {file: left for file, left in lines.items() if left},
        {file: left for file, left in branches.items() if left},
    )
