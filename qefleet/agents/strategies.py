"""The ways in which test-generator comes by a proposal, and what each of them gained."""

from __future__ import annotations

from collections.abc import Sequence

from qefleet.agents.prompt import Prompt, load_prompt
from qefleet.contracts.generation import Filter, Segment, Verdict
from qefleet.contracts.learning import Gains, Strategy
from qefleet.tools.generation.doctests import propose_from_docstring
from qefleet.tools.generation.ghostwriter import ghostwrite
from qefleet.tools.generation.pynguin import search_tests
from qefleet.tools.generation.search import search_calls
from qefleet.tools.ground import Ground
from qefleet.tools.source_tree import read_source

_FLAKY = "passed at first, then:"
"""How the filter of five runs begins the reason of a test that isn't the same each time."""


async def draft_tests(ground: Ground, segment: Segment, strategy: Strategy) -> tuple[str | None, str]:
    """Tests that tools propose for a segment.

    Args:
        ground: The project's workspace.
        segment: What tests are wanted for.
        strategy: One of those without a model.

    Returns:
        Their source, None where there are none, and what went wrong, if anything.
    """
    note = ""
    texts: list[str | None] = []
    if strategy in {Strategy.DOCTEST, Strategy.TOOLS}:
        tree = read_source(ground.project / segment.file)
        texts.append(propose_from_docstring(segment, tree) if tree else None)
    if strategy in {Strategy.GHOSTWRITER, Strategy.TOOLS}:
        texts += await ghostwrite(ground, segment)
    if strategy is Strategy.SEARCH:
        texts += await search_calls(ground, segment)
    if strategy is Strategy.PYNGUIN:
        found, note = await search_tests(ground, segment)
        texts += found
    return "\n\n".join(text for text in texts if text) or None, note


def prompt_of(strategy: Strategy | None) -> Prompt:
    """What a model is asked by."""
    return load_prompt("test-generator-properties" if strategy is Strategy.PROPERTIES else "test-generator")


def gains_of(segment: Segment, verdicts: Sequence[Verdict]) -> Gains:
    """What the filters measured of a proposal; a reader's note that nothing was proposed is none."""
    real = [verdict for verdict in verdicts if verdict.test != "(none)"]
    kept = [verdict for verdict in real if verdict.kept]
    return Gains(
        missing=len(segment.missing_lines) + len(segment.missing_branches),
        gained=sum(verdict.gained_lines + verdict.gained_branches for verdict in kept),
        proposed=len(real),
        kept=len(kept),
        flaky=sum(v.filter is Filter.RUNS and v.reason.startswith(_FLAKY) for v in real),
        mutants_killed=sum(verdict.mutants_killed for verdict in kept),
        mutants_tried=sum(verdict.mutants_tried for verdict in kept),
        processes=sum(verdict.runs + verdict.mutants_tried for verdict in real),
        duration_s=sum(verdict.duration_s for verdict in real),
    )
