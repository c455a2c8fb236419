"""Becomes Postgres: gives up root, ties its life to its parent's, and waits for an older server's end.

Run as `python -I -S launch.py UID LOCK SOCKET PROGRAM ARG…` by `embedded.py`, possibly inside bubblewrap, so
it knows the standard library only. Everything is imported before the privileges go: afterwards the
interpreter's own folder may be out of reach. UID -1 keeps the user.

The lock is taken on a descriptor that Postgres and all its children inherit: while one of them lives, no
second server enters the data folder, and once it is free, what a server left there is surely stale.
(Postgres itself judges by process ids, which `kill -9`, containers and reboots hand out again.)
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

LOCK_WAIT_S = 30
PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Never returns: the process is the program from here on."""
    uid, lock_path, socket, program = int(argv[0]), Path(argv[1]), Path(argv[2]), argv[3:]
    libc = ctypes.CDLL(None)
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which clears it. It comes when a supervisor was killed and could say nothing.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
    os.umask(0o077)
    os.chdir(lock_path.parent)

    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _acquire(lock)
    os.set_inheritable(lock, True)
    for stale in (lock_path.parent / "cluster" / "postmaster.pid", socket.with_name(f"{socket.name}.lock")):
        stale.unlink(missing_ok=True)
    os.execv(program[0], program)  # noqa: S606 - becoming the program is the point


def _acquire(lock: int) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(
                    "another Postgres server runs in this data folder: stop it, or choose another folder"
                )
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
