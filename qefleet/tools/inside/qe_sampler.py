"""Where a system's threads are while it is under load: a sampling profile of the project's functions.

It is laid down as `sitecustomize.py` on the system's path, so that every interpreter of the system has it,
whatever its version. A thread that waits in the standard library for work or for a peer is not counted.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY_S = 0.005
_WRITE_S = 0.5
_PROJECT = "/src/"
_WAITS = (
    "selectors.py",
    "socket.py",
    "socketserver.py",
    "ssl.py",
    "threading.py",
    "queue.py",
    "subprocess.py",
)


def _place(frame: FrameType | None) -> str | None:
    """The innermost function of the project; None for a thread that waits, or has none."""
    if frame is not None and Path(frame.f_code.co_filename).name in _WAITS:
        return None
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PROJECT):
            return f"{code.co_filename[len(_PROJECT) :]}:{code.co_firstlineno} in {code.co_name}"
        frame = frame.f_back
    return None


def _sample() -> None:
    me, written = threading.get_ident(), time.monotonic()
    found: Counter[str] = Counter()
    kept = Path(os.environ["QE_PROFILE"], f"profile-{os.getpid()}.json")
    new = kept.with_suffix(".new")
    while True:
        time.sleep(_EVERY_S)
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
        for thread, frame in frames.items():
            place = _place(frame) if thread != me else None
            if place is not None:
                found[place] += 1
        if time.monotonic() - written > _WRITE_S:
            new.write_text(json.dumps(found), "utf-8")
            new.replace(kept)
            written = time.monotonic()


def _start() -> None:
    threading.Thread(target=_sample, daemon=True).start()


if "QE_PROFILE" in os.environ:
    _start()
    os.register_at_fork(after_in_child=_start)
