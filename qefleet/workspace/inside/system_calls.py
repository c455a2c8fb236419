"""A filter over system calls: what no test suite needs, and what makes memory that no limit counts."""

from __future__ import annotations

import ctypes
import os
import struct

from .libc import LIBC
from .refused import Refused

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_EPERM, _ENOSYS = 1, 38
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
# name: (x86_64, aarch64); -1 where an architecture lacks it
_FORBIDDEN: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "setns": (308, 268), "open_by_handle_at": (304, 265), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "acct": (163, 89), "syslog": (103, 116), "pidfd_getfd": (438, 438), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "quotactl": (179, 60), "iopl": (172, -1),
    "ioperm": (173, -1),
}  # fmt: skip
# Answered as on a kernel that lacks them. clone3: its flags lie behind a pointer that a filter can't follow,
# and the C library falls back to clone. The others make memory or work that no limit of ours counts.
_ABSENT: dict[str, tuple[int, int]] = {
    "clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56, 272), "aarch64": (1, 0xC00000B7, 220, 97)}
# machine: (column above, AUDIT_ARCH, clone, unshare)


def filter_system_calls() -> None:
    """Apply it to this process and its descendants; on a machine that isn't listed there is none."""
    program = _seccomp_program()
    if program is None:
        return
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    if LIBC.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), header, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise Refused(f"filtering system calls: {os.strerror(ctypes.get_errno())}")


def _seccomp_program() -> bytes | None:
    """The filter as BPF, or None on a machine whose system call numbers aren't listed here."""
    known = _ARCHITECTURES.get(os.uname().machine)
    if known is None:
        return None
    column, architecture, clone, unshare = known
    load, jump_equal, jump_at_least, jump_any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, eperm, enosys = 0x7FFF0000, 0x00050000 | _EPERM, 0x00050000 | _ENOSYS

    def code(operation: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", operation, yes, no, value)

    program = [code(load, 4), code(jump_equal, architecture, 1, 0), code(give, enosys), code(load, 0)]
    program += [code(jump_at_least, 0x40000000, 0, 1), code(give, enosys)]  # the x32 twins of x86_64's calls
    for table, answer in ((_FORBIDDEN, eperm), (_ABSENT, enosys)):
        for numbers in table.values():
            if numbers[column] >= 0:
                program += [code(jump_equal, numbers[column], 0, 1), code(give, answer)]
    program += [
        code(jump_equal, clone, 1, 0),
        code(jump_equal, unshare, 0, 3),
        code(load, 16),
        code(jump_any_bit, _NEW_NAMESPACES, 0, 1),
        code(give, eperm),
        code(give, allow),
    ]
    return b"".join(program)
