"""The state in which a strategy is chosen: a few named, bucketed features of a segment."""

from __future__ import annotations

import ast
from typing import Literal

from qefleet.contracts.generation import Segment
from qefleet.contracts.learning import Features
from qefleet.tools.source_tree import SourceTree

_LONG = 20
"""Lines; a median function has about ten."""
_MANY = 5
"""Lines and branches."""


def features_of(segment: Segment, tree: SourceTree | None, *, model: str) -> Features:
    """Sort a segment into its state.

    Args:
        segment: What a test is wanted for.
        tree: Its file; None where it can't be read, which has neither examples nor types.
        model: The run's: `none`, `local` or `provider/name`.
    """
    definition = next((d for d in tree.definitions if d.qualname == segment.qualname), None) if tree else None
    nodes = [definition.node, *definition.classes] if definition else []
    docs = [ast.get_docstring(node) or "" for node in nodes]
    annotated = (
        {a.arg for a in ast.walk(definition.node.args) if isinstance(a, ast.arg) and a.annotation}
        if definition
        else set[str]()
    )
    missing = len(segment.missing_lines) + len(segment.missing_branches)
    return Features(
        kind="method" if segment.class_header else "function",
        example=any(">>>" in doc for doc in docs),
        typed=bool(segment.parameters) and annotated.issuperset(segment.parameters),
        size="long" if segment.end_line - segment.start_line >= _LONG else "short",
        missing="many" if missing > _MANY else "few",
        model=model_kind(model),
    )


def model_kind(model: str) -> Literal["none", "local", "large"]:
    """What is learnt with one kind of model tells nothing of another."""
    return "none" if model == "none" else "local" if model == "local" else "large"
