"""Let Hypothesis's ghostwriter propose tests for one function: source text under /out/proposal.py.

Only forms that assert something are asked for first; `fuzz` (no assertion: a crash oracle) comes last.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if importlib.util.find_spec("black") is None:
    # The ghostwriter formats its text with black, which the target's environment need not have (and
    # which would pull its own requirements into it): unformatted text serves us as well.
    _black: Any = types.ModuleType("black")
    _black.format_str = lambda text, **_: text  # pyright: ignore[reportUnknownLambdaType] - a stand-in
    _black.Mode = object
    sys.modules["black"] = _black

_ghostwriter: Any = importlib.import_module("hypothesis.extra.ghostwriter")

_INVERSES = (
    ("encode", "decode"), ("dump", "load"), ("dumps", "loads"), ("to_", "from_"), ("escape", "unescape"),
    ("quote", "unquote"), ("pack", "unpack"), ("parse", "format"), ("serialize", "deserialize"),
    ("compress", "decompress"), ("int2", "2int"), ("under2camel", "camel2under"), ("flatten", "unflatten"),
)  # fmt: skip


def main() -> None:
    """Write what the ghostwriter writes for `/qe/spec.json`'s module and qualified name."""
    spec: dict[str, str] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    sys.path[0] = str(Path.cwd())
    module = importlib.import_module(spec["module"])
    target: Any = module
    for part in spec["qualname"].split("."):
        target = getattr(target, part)
    proposals: list[str] = []
    problems: list[str] = []
    for form in _forms(module, spec["qualname"], target):
        try:
            proposals.append(form())
        except Exception as error:  # noqa: BLE001 - the ghostwriter refuses by many kinds of exception
            problems.append(f"{type(error).__name__}: {error}")
    Path("/out/proposal.json").write_text(json.dumps({"proposals": proposals, "problems": problems}), "utf-8")


def _forms(module: Any, name: str, target: Any) -> Iterator[Callable[[], str]]:
    yield lambda: _ghostwriter.idempotent(target, style="pytest")
    for left, right in _INVERSES:
        for mine, other in ((left, right), (right, left)):
            if mine in name:
                inverse = getattr(module, name.replace(mine, other, 1), None)
                if callable(inverse) and inverse is not target:
                    yield _roundtrip(target, inverse)
    yield lambda: _ghostwriter.binary_operation(target, style="pytest")
    yield lambda: _ghostwriter.fuzz(target, style="pytest")


def _roundtrip(target: Any, inverse: Any) -> Callable[[], str]:
    return lambda: _ghostwriter.roundtrip(target, inverse, style="pytest")


if __name__ == "__main__":
    main()
