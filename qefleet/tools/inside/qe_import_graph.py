"""Read the import graph of packages with grimp, which parses them and executes nothing; leave it as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Write `/out/imports.json` for the packages and folders that the argument names, as JSON."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    import grimp  # noqa: PLC0415 - before the project's folders are on the path

    sys.path[:0] = spec["roots"]
    edges: set[tuple[str, str]] = set()
    for name in spec["packages"]:
        found = importlib.util.find_spec(name)
        places = list(found.submodule_search_locations or []) if found else []
        if not any(place.startswith("/src/") for place in places):
            raise SystemExit(f"{name} is not found among the project's packages")
        graph = grimp.build_graph(name, cache_dir=None)
        edges |= {
            (m, imported) for m in graph.modules for imported in graph.find_modules_directly_imported_by(m)
        }
    Path("/out/imports.json").write_text(json.dumps({"edges": sorted(edges)}), "utf-8")


if __name__ == "__main__":
    main()
