"""Ctrl-C and SIGTERM: once asks, twice insists."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_interrupt(first: Callable[[], None], again: Callable[[], None]) -> Generator[None]:
    """Inside the block, call `first` at the first of `SIGNALS` and `again` at each further one."""
    loop = asyncio.get_running_loop()
    seen = 0

    def handle() -> None:
        nonlocal seen
        seen += 1
        (first if seen == 1 else again)()

    for signum in SIGNALS:
        loop.add_signal_handler(signum, handle)
    try:
        yield
    finally:
        for signum in SIGNALS:
            loop.remove_signal_handler(signum)
