"""Vectors of texts, for recall by meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from qefleet.errors import ModelRefused, ModelUnavailable, ModelUnusable

NO_VECTORS = (ModelRefused, ModelUnavailable, ModelUnusable)
"""What an embedder raises whose model can't be had: recall then goes by words."""
TEXT_MAX = 8_000
"""Characters of an entry that its vector is made of."""


class Embedder(Protocol):
    """Makes vectors of length 1 whose scalar product says how near two texts are."""

    @property
    def model(self) -> str:
        """Vectors of different models aren't compared."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text.

        Raises:
            ModelRefused, ModelUnavailable, ModelUnusable: A provider's model makes none.
        """
        ...


def entry_text(key: str, json_text: str) -> str:
    """What an entry's vector is made of."""
    return f"{key} {json_text}"[:TEXT_MAX]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """How near two vectors are, from -1 to 1; 0 where one of them has no direction."""
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0
