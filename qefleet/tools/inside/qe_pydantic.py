"""A Pydantic model of the target: `/qe/spec.json` in, `/out/model.json` out.

Run with the target's interpreter. Without rows it tells the model's JSON Schema; with `/qe/rows.json`, which
of them the model refuses.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

_SHOWN = 20


def main() -> None:
    """Import the model as the project's own code would."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    sys.path.insert(0, str(Path.cwd()))
    module, _, name = spec["model"].partition(":")
    model: Any = importlib.import_module(module)
    for part in name.split("."):
        model = getattr(model, part)
    rows = Path("/qe/rows.json")
    answer = (
        {"refused": _refused(model, json.loads(rows.read_text("utf-8")))} if rows.exists() else _schema(model)
    )
    Path("/out/model.json").write_text(json.dumps(answer), "utf-8")


def _schema(model: Any) -> Any:
    return model.model_json_schema() if hasattr(model, "model_json_schema") else model.schema()


def _refused(model: Any, made: dict[str, Any]) -> dict[int, str]:
    wrong: dict[int, str] = {}
    for number, row in enumerate(made["tables"][0]["rows"]):
        try:
            if hasattr(model, "model_validate_json"):
                model.model_validate_json(json.dumps(row))
            else:
                model.parse_obj(row)
        except ValueError as error:
            wrong[number] = " ".join(str(error).split())[:300]
    return wrong


if __name__ == "__main__":
    main()
