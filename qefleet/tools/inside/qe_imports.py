"""Tell which imports resolve in the target's environment: `/qe/spec.json` in, `/out/imports.json` out.

One process for all of them; a module that ends the process or hangs takes only this one with it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Try each `(module, name)`; an answer is null, or why it doesn't resolve."""
    wanted: list[tuple[str, str | None]] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    sys.path[0] = str(Path.cwd())
    sys.path += [folder for folder in os.environ.get("QE_TEST_FOLDER", "").split(os.pathsep) if folder]
    answers = [_problem(module, name) for module, name in wanted]
    Path("/out/imports.json").write_text(json.dumps(answers), "utf-8")


def _problem(module: str, name: str | None) -> str | None:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - any module may raise anything while it is imported
        return f"{type(error).__name__}: {error}"
    if name is None or hasattr(loaded, name):
        return None
    try:
        importlib.import_module(module + "." + name)
    except Exception:  # noqa: BLE001 - as above
        return f"cannot import name {name!r} from {module!r}"
    return None


if __name__ == "__main__":
    main()
