"""A proposer without a model: Hypothesis's ghostwriter, run in the target's environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qefleet.contracts.generation import Segment
from qefleet.tools.ground import Ground, read_json, run_program
from qefleet.workspace.sandbox import Limits


async def ghostwrite(ground: Ground, segment: Segment, *, timeout_s: float = 30.0) -> list[str]:
    """Let the ghostwriter propose tests for a segment's function.

    Asks for the forms that assert something (idempotent, round trip, binary operation) and for the
    one that doesn't (fuzz, which the first filter rejects). Which of them hold for the function is for
    the filters to say.

    Args:
        ground: The project's workspace.
        segment: A function; the ghostwriter knows nothing of methods' objects.
        timeout_s: Time limit.

    Returns:
        Source texts, one a form; empty where the function can't be imported or is a method.
    """
    if segment.class_header:
        return []
    outcome = await run_program(
        ground,
        "qe_ghostwriter",
        {"module": segment.module, "qualname": segment.qualname},
        collect=["proposal.json"],
        limits=replace(Limits(), wall_s=timeout_s),
    )
    answer: Any = read_json(outcome.outputs.get("proposal.json"))
    texts = [str(text) for text in answer["proposals"]] if answer else []
    # `nothing()` is a gap that the ghostwriter leaves for a person to fill: such a test can't draw a value
    return [_without_deadline(text) for text in texts if "nothing()" not in text]


def _without_deadline(text: str) -> str:
    """Hypothesis fails an example that takes 200 ms, which on a busy machine says nothing about the code."""
    text = text.replace("@given(", "@settings(deadline=None)\n@given(")
    return text.replace("from hypothesis import given, ", "from hypothesis import given, settings, ")
