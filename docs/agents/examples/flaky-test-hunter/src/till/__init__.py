"""A till: what is in it, and a guess of the queue before it."""

import random

_amounts: list[float] = []


def put(amount: float) -> None:
    """Put money in."""
    _amounts.append(amount)


def inside() -> float:
    """What is in it."""
    return sum(_amounts)


def queue() -> int:
    """How many people wait, more or less."""
    return random.randrange(10)
