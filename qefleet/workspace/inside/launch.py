"""The first process inside a sandbox: builds the scratch layer, gives up every privilege, watches the child.

It runs as process 1 of its own PID namespace, under the worker's interpreter with `-I -S`, and imports
nothing but the standard library. The worker talks to it over one socket (its number is the only
argument): a JSON header with the order and the bytes of extra files go in, a JSON header with the outcome
and the bytes of what was printed and collected come out. So the worker never opens a file that untrusted
code made, and nothing of a run touches the host's disk: all that it writes lies in one tmpfs with a cap.

The order of the steps matters: mounts need the privileges, the watch must not have them, and the child
gets its limits and its system call filter last.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import sys

from .layers import lay_out
from .privileges import become_nobody
from .refused import Refused
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` would cost 3 ms in each run
    from typing import Any, NoReturn


def main() -> NoReturn:
    """Carry out one order and report; the exit code only tells whether a report was sent."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    order = json.loads(_receive(channel, struct.unpack("!I", _receive(channel, 4))[0]))
    extra = [(path, _receive(channel, size)) for path, size in order["files"]]
    try:
        os.umask(0o022)
        lay_out(order)
        become_nobody(order["uid"], in_namespace=order["user_namespace"])
        _write_files(extra)
        outcome = Watch(order, channel).run()
        outputs = _collect(order["collect"], order["collect_bytes"])
    except (Refused, OSError) as error:
        _report(channel, {"refused": f"{type(error).__name__}: {error}"}, b"", [])
        os._exit(1)
    printed = outcome.pop("printed")
    _report(channel, outcome, printed, outputs)
    os._exit(0)


def _receive(channel: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = channel.recv(min(size, 1 << 20))
        if not part:
            os._exit(2)  # the worker is gone: so are we, and with us the whole namespace
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _report(
    channel: socket.socket, header: dict[str, Any], printed: bytes, outputs: list[tuple[str, bytes]]
) -> None:
    header |= {"printed": len(printed), "outputs": [(name, len(content)) for name, content in outputs]}
    encoded = json.dumps(header).encode()
    channel.setblocking(True)
    try:
        channel.sendall(struct.pack("!I", len(encoded)) + encoded + printed)
        for _, content in outputs:
            channel.sendall(content)
    except OSError:
        os._exit(2)


def _write_files(files: list[tuple[str, bytes]]) -> None:
    for path, content in files:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def _collect(names: list[str], cap: int) -> list[tuple[str, bytes]]:
    """Regular files only, and none behind a link: a name that leads elsewhere is left out."""
    collected: list[tuple[str, bytes]] = []
    for path in names:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size <= cap:
                content = file.read(cap + 1)
                cap -= len(content)
                collected.append((path, content))
    return collected
