"""Giving up every right, for good."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct

from .libc import LIBC, prctl
from .refused import Refused

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_V3, _LAST_CAPABILITY = 0x20080522, 63


def become_nobody(uid: int, *, in_namespace: bool) -> None:
    """Become `uid` and give up every capability for good.

    Args:
        uid: The user to become.
        in_namespace: We are root of a user namespace only: `uid` is a name for the one user that we map to,
            in a namespace below that has no say over our mounts.
    """
    # First to go when memory runs out, where the kernel lets us say so.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    if in_namespace:
        _nest_user_namespace(uid)
    for capability in range(_LAST_CAPABILITY + 1):
        prctl(_PR_CAPBSET_DROP, capability)  # fails past the last one that this kernel knows
    if not in_namespace:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_V3, 0)
    if LIBC.capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)) != 0:
        raise Refused(f"giving up capabilities: {os.strerror(ctypes.get_errno())}")
    if prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        raise Refused("this kernel has no PR_SET_NO_NEW_PRIVS")
    # A change of uid clears it; without it a killed worker would leave us behind until the next tick.
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The child has our uid: an undumpable process can't be traced by its equals, nor its memory read.
    prctl(_PR_SET_DUMPABLE, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # process 1 is deaf to what it has no handler for


def _nest_user_namespace(uid: int) -> None:
    if LIBC.unshare(_CLONE_NEWUSER) != 0:
        raise Refused(f"a second user namespace: {os.strerror(ctypes.get_errno())}")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{uid} 0 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
