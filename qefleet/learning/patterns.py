"""Patterns: tests that were kept, as examples for similar code of the same project.

Pure. Only measured successes become patterns: a test has passed all six filters of a run of the same project.
A pattern of one project is never shown to a model that works on another one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from qefleet.contracts.base import Model
from qefleet.contracts.generation import KeptTest
from qefleet.contracts.learning import Features

MOST_RECALLED = 2
"""Examples that one question shows."""
MOST_CHARS = 1600
"""Characters of all of them, about 500 tokens: what is shown must not crowd the code out."""
_WORD = re.compile(r"[a-z]+")


class Pattern(Model):
    """A kept test's shape, and what it was kept for."""

    features: Features
    target: str
    """Module and qualified name that it tests."""
    imports: list[str]
    helpers: list[str]
    source: str
    mutants_killed: int

    @property
    def text(self) -> str:
        """As a model is shown it."""
        return "\n\n\n".join(["\n".join(self.imports), *self.helpers, self.source]).strip()

    def id_for(self, agent: str, project: str) -> str:
        """The same test of the same project is the same pattern, whichever run keeps it."""
        return hashlib.sha256(repr((agent, project, self.target, self.source)).encode()).hexdigest()


def distil(test: KeptTest, features: Features) -> Pattern:
    """What is worth remembering of a kept test."""
    return Pattern(
        features=features,
        target=test.segment,
        imports=test.imports,
        helpers=test.helpers,
        source=test.source,
        mutants_killed=test.mutants_killed,
    )


def likeness(pattern: Pattern, features: Features, item: str) -> float:
    """How much a pattern has in common with a segment: its features, its module, the words of its name."""
    mine, theirs = pattern.features.model_dump(exclude={"model"}), features.model_dump(exclude={"model"})
    same = sum(mine[name] == theirs[name] for name in mine) / len(mine)
    words, other = set(_WORD.findall(pattern.target.lower())), set(_WORD.findall(item.lower()))
    shared = len(words & other) / max(1, len(words | other))
    module = pattern.target.partition(":")[0] == item.partition(":")[0]
    return same + shared + 0.5 * module


def recall(known: Sequence[tuple[str, Pattern, float]], features: Features, item: str) -> list[str]:
    """Ids of the patterns that are shown for a segment, the best first, within the limits.

    Args:
        known: Id, pattern and score of what the project has.
        features: Of the segment.
        item: Its id.
    """
    ranked = sorted(known, key=lambda entry: (-entry[2] - likeness(entry[1], features, item), entry[0]))
    chosen: list[str] = []
    left = MOST_CHARS
    for pattern_id, pattern, _ in ranked:
        if len(chosen) < MOST_RECALLED and len(pattern.text) <= left:
            chosen.append(pattern_id)
            left -= len(pattern.text)
    return chosen
