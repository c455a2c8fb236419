"""Serve an application on 127.0.0.1 with the target's interpreter: `qe_serve.py MODULE:NAME PORT FALLBACK`.

ASGI by uvicorn, WSGI by the standard library. Where the target's environment has no uvicorn, it is lent by
the fleet's own packages in FALLBACK: uvicorn and the two libraries that it needs, nothing else of them.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

LENT = ("uvicorn", "h11", "click")


class Lender(importlib.abc.MetaPathFinder):
    """Finds what is lent, after everything of the target's own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Only top-level modules: the rest follows from where those are."""
        del path, target
        if fullname in LENT:
            return importlib.machinery.PathFinder.find_spec(fullname, [self.folder])
        return None


def load(name: str) -> Any:
    """The object that is named, from the project's folder as its own server would find it."""
    sys.path.insert(0, str(Path.cwd()))
    module, _, attribute = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def is_asgi(app: Any) -> bool:
    """Whether calling it gives something to await: by its kind, else by the number of its parameters."""
    call: Any = app if inspect.isroutine(app) else app.__call__
    if inspect.iscoroutinefunction(call):
        return True
    parameters = [p for p in inspect.signature(app).parameters.values() if p.default is p.empty]
    return len(parameters) == 3  # noqa: PLR2004 - scope, receive, send; WSGI has two


class Server(ThreadingMixIn, WSGIServer):
    """One thread a request, so that one that hangs doesn't stop the others."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Its log would be the server's last words."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name above
        """Say nothing."""


def main() -> None:
    """Serve until it is stopped."""
    app = load(sys.argv[1])
    port = int(sys.argv[2])
    if not is_asgi(app):
        make_server("127.0.0.1", port, app, server_class=Server, handler_class=Quiet).serve_forever()
        return
    sys.meta_path.append(Lender(sys.argv[3]))
    uvicorn: Any = importlib.import_module("uvicorn")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
