"""A proposer without a model: Pynguin's search for tests, in the target's environment.

Its tests expect what the code gives today, and running the code under test is how it searches, so it is only
ever run in the sandbox. It comes with `qefleet[pynguin]` in the fleet's own environment, and is of use to
targets whose Python is of the same version.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from pydantic import ValidationError

from qefleet.contracts.base import Model
from qefleet.contracts.generation import Segment
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import Tool
from qefleet.workspace.sandbox import Limits

_PROBLEM_CHARS = 400
PYNGUIN = Tool(name="pynguin", extra="pynguin")
_ITERATIONS = 100
"""Of its search. Seconds would depend on how busy the machine is; so each search finds the same tests."""
_CPU_S = 60.0
"""Processor time; a search takes 3 to 20 seconds."""


def can_search(python: str) -> bool:
    """Whether Pynguin is there for a target.

    Args:
        python: Version of the target's interpreter, such as `3.11.7`.
    """
    same = python.split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    return same and PYNGUIN.version() is not None


async def search_tests(
    ground: Ground, segment: Segment, *, timeout_s: float = 180.0
) -> tuple[list[str], str]:
    """Let Pynguin search for tests that reach what is missing of a segment.

    Args:
        ground: The project's workspace.
        segment: A function or a method, or a piece of one.
        timeout_s: Wall time after which it is stopped.

    Returns:
        Source texts, one a test, and why there are none where something went wrong.
    """
    if PYNGUIN.version() is None:
        return [], f"pynguin isn't installed: {PYNGUIN.how_to_install}"
    outcome = await run_program(
        ground,
        "qe_pynguin",
        {
            "module": segment.module,
            "qualname": segment.qualname,
            "file": segment.file,
            "start": segment.start_line,
            "end": segment.end_line,
            "missing_lines": segment.missing_lines,
            "missing_branches": segment.missing_branches,
            "tools_python": ground.tools_python,
            "iterations": _ITERATIONS,
        },
        collect=["proposal.json"],
        limits=replace(Limits(), wall_s=timeout_s, cpu_s=_CPU_S),
        beside=True,
    )
    try:
        answer = _Answer.model_validate_json(outcome.outputs.get("proposal.json", b""))
    except ValidationError:
        limit = outcome.finished.stopped
        return [], f"Pynguin was stopped at its limit of {limit}" if limit else "Pynguin left no proposal"
    return answer.proposals, answer.problem[:_PROBLEM_CHARS]


class _Answer(Model):
    proposals: list[str] = []
    problem: str = ""
