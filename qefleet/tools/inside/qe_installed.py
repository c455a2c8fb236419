"""Tell what is installed in the target's environment, and what of it the project needs when it runs.

`/qe/spec.json` has requirements to start from where the project itself isn't installed; `/out/installed.json`
has the answer. It runs with the target's interpreter, whose markers decide what is needed.
"""

from __future__ import annotations

import json
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement


def main() -> None:
    """Look at all distributions, then follow the project's requirements through them."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    found = {_key(str(one.metadata["Name"])): one for one in metadata.distributions() if one.metadata["Name"]}
    own = sorted(key for key, one in found.items() if _is_project(one))
    roots = [text for key in own for text in found[key].requires or []] or spec["requirements"]
    needed = _closure(roots, found)
    answer = {
        "python": platform.python_version(),
        "project": own[0] if own else None,
        "known": bool(own or roots),
        "installed": {key: one.version for key, one in sorted(found.items())},
        "needed": {key: found[key].version for key in sorted(needed - {*own}) if key in found},
        "absent": sorted(needed - found.keys()),
    }
    Path("/out/installed.json").write_text(json.dumps(answer, indent=1), "utf-8")


def _is_project(distribution: metadata.Distribution) -> bool:
    """Installed from `/src`, as pip and uv write it down."""
    try:
        url = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
    except ValueError:
        return False
    return url.rstrip("/") == "file:///src"


def _closure(roots: list[str], found: dict[str, metadata.Distribution]) -> set[str]:
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [*_applying(roots, frozenset({""}))]
    while waiting:
        key, extras = waiting.pop()
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        if key in found:
            waiting += _applying(found[key].requires or [], extras | {""})
    return {key for key, _ in seen}


def _applying(texts: list[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """Requirements whose markers hold here, with the extras that they ask for."""
    applying: list[tuple[str, frozenset[str]]] = []
    for text in texts:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            applying.append((_key(wanted.name), frozenset(wanted.extras)))
    return applying


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
