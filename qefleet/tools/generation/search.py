"""A proposer without a model: calls found by search, with what they gave as what is expected.

Such tests pin down how the code behaves now: they notice changes, and can't tell whether it was right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qefleet.contracts.generation import Segment
from qefleet.tools.ground import Ground, read_json, run_program
from qefleet.workspace.sandbox import Limits


async def search_calls(ground: Ground, segment: Segment, *, timeout_s: float = 60.0) -> list[str]:
    """Search for calls of a segment's function that reach what is missing.

    Args:
        ground: The project's workspace.
        segment: A function or a method.
        timeout_s: Time limit.

    Returns:
        Source texts of at most two tests: of what is returned, and of what is refused.
    """
    outcome = await run_program(
        ground,
        "qe_search",
        {
            "module": segment.module,
            "qualname": segment.qualname,
            "source": segment.source,
            "missing": segment.missing_lines + [end for _, end in segment.missing_branches],
        },
        collect=["proposal.json"],
        env={"PYTHONHASHSEED": "0"},
        limits=replace(Limits(), wall_s=timeout_s),
    )
    answer: Any = read_json(outcome.outputs.get("proposal.json"))
    return [str(text) for text in answer["proposals"]] if answer else []
