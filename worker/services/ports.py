"""Which ports the services listen on."""

from __future__ import annotations

import contextlib
import socket

import psutil

from qefleet.errors import SettingsError

HOST = "127.0.0.1"


def choose_port(*, named: int | None, variable: str, default: int, taken: set[int]) -> int:
    """The user's port, else the default, else any that is free.

    Args:
        named: What the user asked for.
        variable: Where they asked for it, for the message.
        default: Preferred when nothing was asked for.
        taken: Ports given out before; the chosen one is added.

    Raises:
        SettingsError: The user's port is in use; the message says by whom, where that can be seen.
    """
    if named is not None:
        if named in taken or not is_free(named):
            raise SettingsError(
                f"{variable}: port {named} is in use{_by_whom(named)}; "
                "stop that program, choose another port, or unset the variable to have a free one chosen"
            )
        port = named
    else:
        port = default if default not in taken and is_free(default) else _any_free(taken)
    taken.add(port)
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen on it now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True


def _any_free(taken: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port


def _by_whom(port: int) -> str:
    # Others' sockets are hidden from normal users on some systems: then there's nothing to tell.
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            here = connection.laddr
            if here and here.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
