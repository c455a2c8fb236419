"""One capped tmpfs under everything that a run can write; the rest is read-only."""

from __future__ import annotations

import ctypes
import os

from .libc import LIBC
from .refused import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` would cost 3 ms in each run
    from typing import Any

_SCRATCH = "/.scratch"
_MNT_DETACH = 2
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096


def lay_out(order: dict[str, Any]) -> None:
    """Put one capped tmpfs under everything that can be written."""
    _write_etc(order["uid"])
    size, inodes = order["scratch_bytes"], order["scratch_inodes"]
    _call_mount(
        "tmpfs", _SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size},nr_inodes={inodes},mode=0755"
    )
    for inside in order["scratch"]:
        place = _SCRATCH + inside
        os.makedirs(place)
        os.chmod(place, 0o1777)  # noqa: S103  as /tmp always is
        _call_mount(place, inside, "", _MS_BIND, "")
    options = "index=off,metacopy=off" + (",userxattr" if order["user_namespace"] else "")
    for number, (lower, inside) in enumerate(order["layered"]):
        upper, work = f"{_SCRATCH}/.upper{number}", f"{_SCRATCH}/.work{number}"
        for folder in (upper, work):
            os.mkdir(folder)
        os.chmod(upper, 0o777)  # noqa: S103  the root of the merged tree takes its mode from here
        layers = f"lowerdir={lower},upperdir={upper},workdir={work},{options}"
        try:
            _call_mount("overlay", inside, "overlay", _MS_NOSUID | _MS_NODEV, layers)
        except Refused:
            # Before Linux 5.11 a user namespace may not: a copy does the same, a tenth of a second slower.
            import shutil  # noqa: PLC0415  it takes 10 ms to import

            shutil.copytree(lower, upper, symlinks=True, dirs_exist_ok=True)
            _call_mount(upper, inside, "", _MS_BIND, "")
    # It lives on in what is bound from it; by its own name nobody needs it any more.
    if LIBC.umount2(_SCRATCH.encode(), _MNT_DETACH) != 0:
        raise Refused(f"detaching {_SCRATCH}: {os.strerror(ctypes.get_errno())}")
    # What is left of the root and of /dev are two tmpfs without a cap of ours: no writing there.
    for place, flags in (("/dev", _MS_NOSUID), ("/", _MS_NOSUID | _MS_NODEV)):
        _call_mount("", place, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags, "")


def _call_mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    if LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()) != 0:
        code = ctypes.get_errno()
        raise Refused(f"mounting {target} ({kind or 'bind'}): {os.strerror(code)}")


def _write_etc(uid: int) -> None:
    """Give the sandbox's user a name; the host's list of users stays outside."""
    texts = {
        "passwd": f"root:x:0:0:root:/:/bin/sh\nqe:x:{uid}:{uid}:qe:/tmp:/bin/sh\n",
        "group": f"root:x:0:\nqe:x:{uid}:\n",
        "hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    for name, text in texts.items():
        path = f"/etc/{name}"
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)
