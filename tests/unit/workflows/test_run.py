from __future__ import annotations

from workflows.run import together


async def test_nothing_to_do_is_done() -> None:
    """A flow of which no step is left ends, and doesn't wait for ever."""
    await together([])
