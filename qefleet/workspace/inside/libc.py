"""The C library, for system calls that the standard library has no name for."""

from __future__ import annotations

import ctypes

LIBC = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int) -> int:
    """`prctl(2)` with one number as its argument."""
    zero = ctypes.c_ulong(0)
    return LIBC.prctl(option, ctypes.c_ulong(argument), zero, zero, zero)
