"""What flows and commanders' plans have in common: nodes that wait for each other, and never in a circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def check_graph(field: str, noun: str, nodes: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Check that nodes make a graph.

    Args:
        field: Where they stand in the input, such as `steps`.
        noun: What one is called, such as `step`.
        nodes: Each one's id, and the ids that it waits for by their place in it, such as `depends_on.0`.

    Raises:
        ValueError: An id stands twice, a dependency doesn't exist, or they go in circles; the path is named.
    """
    known: set[str] = set()
    for number, (name, _) in enumerate(nodes):
        if name in known:
            raise ValueError(f"{field}.{number}.id: stands twice")
        known.add(name)
    for number, (_, before) in enumerate(nodes):
        for place, other in before.items():
            if other not in known:
                raise ValueError(f"{field}.{number}.{place}: no such {noun}")
    try:
        TopologicalSorter({name: list(before.values()) for name, before in nodes}).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        raise ValueError(f"{field}: they wait for each other: {' → '.join(reversed(circle))}") from None
