"""What locust runs: users that ask for weighted paths, as `load.json` beside this file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant

_LOAD: dict[str, Any] = json.loads(Path(__file__).with_name("load.json").read_text("utf-8"))


def _task(path: dict[str, Any]) -> Callable[[FastHttpUser], None]:
    def request(user: FastHttpUser) -> None:
        # never on to another host: redirects count as answers
        user.client.request(  # pyright: ignore[reportUnknownMemberType] - bare dicts of its own
            path["method"], path["path"], name=path["path"], json=path["body"], allow_redirects=False
        )

    return request


_TASKS: list[Any] = [_task(path) for path in _LOAD["paths"] for _ in range(path["weight"])]


class Visitor(FastHttpUser):
    """Asks, waits, asks again."""

    host = _LOAD["host"]
    wait_time = constant(_LOAD["wait_s"])
    network_timeout = _LOAD["timeout_s"]
    connection_timeout = _LOAD["timeout_s"]
    max_redirects = 0
    tasks = _TASKS
