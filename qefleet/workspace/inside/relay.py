"""The way to the package index: from a port of our own loopback to the worker's proxy."""

from __future__ import annotations

import contextlib
import os
import socket

_CHUNK = 1 << 16


def start_relay(port: int, path: str) -> None:
    """Pass what comes to a port of our own loopback on to the worker's proxy behind a Unix socket."""
    listener = socket.create_server(("127.0.0.1", port))
    if os.fork() != 0:
        listener.close()
        return
    import threading  # noqa: PLC0415  needed in this process alone

    while True:
        client, _ = listener.accept()
        upstream = socket.socket(socket.AF_UNIX)
        try:
            upstream.connect(path)
        except OSError:
            client.close()
            continue
        for source, sink in ((client, upstream), (upstream, client)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(_CHUNK):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
