"""The public Python API of packages, and what has broken in it: `/qe/api-spec.json` in, `/out/api.json` out.

Reads syntax trees alone: nothing of the packages is imported. Run with the fleet's interpreter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import griffe


def main() -> None:
    """Load each package, and hold it against the one of its name in `/qe/base.json`, if any."""
    spec: dict[str, Any] = json.loads(Path("/qe/api-spec.json").read_text("utf-8"))
    base = Path("/qe/base.json")
    before: dict[str, Any] = json.loads(base.read_text("utf-8")) if base.exists() else {}
    loader = griffe.GriffeLoader(search_paths=spec["roots"], allow_inspection=False)
    packages: dict[str, griffe.Module] = {}
    for name in spec["packages"]:
        loaded = loader.load(name, try_relative_path=False)
        assert isinstance(loaded, griffe.Module)
        packages[name] = loaded
    loader.resolve_aliases(implicit=True, external=False)
    answer = {
        "objects": sum(_public(package) for package in packages.values()),
        "changes": [
            change for name, was in sorted(before.items()) for change in _changes(was, packages.get(name))
        ],
        "packages": {name: _kept(package) for name, package in packages.items()},
    }
    Path("/out/api.json").write_text(json.dumps(answer), "utf-8")


def _public(parent: griffe.Module | griffe.Class) -> int:
    """Number of public objects, what is imported from elsewhere left out."""
    members = [
        member
        for member in parent.members.values()
        if not member.is_alias and not member.name.startswith("_")
    ]
    return len(members) + sum(
        _public(member) for member in members if isinstance(member, griffe.Module | griffe.Class)
    )


def _kept(package: griffe.Module) -> Any:
    """The API as griffe's own JSON, from which it can be loaded again; without docstrings."""
    _strip(package)
    return json.loads(package.as_json(full=False))


def _strip(parent: griffe.Object) -> None:
    parent.docstring = None
    for member in parent.members.values():
        if isinstance(member, griffe.Object):
            _strip(member)


def _changes(was: dict[str, Any], now: griffe.Module | None) -> list[dict[str, Any]]:
    before = griffe.Module.from_json(json.dumps(was))
    collection = griffe.ModulesCollection()
    collection[before.name] = before
    before._modules_collection = collection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - where aliases are looked up
    if now is None:
        return [_described(griffe.ObjectRemovedBreakage(before, before, None))]
    found = griffe.find_breaking_changes(before, now)
    return [_described(breakage) for breakage in found if not _only_object(breakage)]


def _only_object(breakage: griffe.Breakage) -> bool:
    """A class that no longer spells out that it is an object."""
    if breakage.kind is not griffe.BreakageKind.CLASS_REMOVED_BASE:
        return False
    return {str(base) for base in breakage.old_value} - {str(base) for base in breakage.new_value} == {
        "object"
    }


def _described(breakage: griffe.Breakage) -> dict[str, Any]:
    found = breakage.obj
    removed = breakage.kind is griffe.BreakageKind.OBJECT_REMOVED
    old, new = (_text(value) for value in (breakage.old_value, breakage.new_value))
    return {
        "kind": breakage.kind.name,
        "object": found.path,
        "old": "" if removed else old,
        "new": new,
        "path": _path(found),
        "line": None if removed else found.lineno,
    }


def _text(value: Any) -> str:
    if isinstance(value, griffe.Parameter):
        return value.name if value.default is None else f"{value.name}={value.default}"
    if isinstance(value, list):
        return ", ".join(str(part) for part in cast("list[Any]", value))
    return "" if value is None or isinstance(value, griffe.Object | griffe.Alias) else str(value)


def _path(found: griffe.Object | griffe.Alias) -> str | None:
    """Its file as it is now, relative to the project."""
    path = found.filepath
    if not isinstance(path, Path) or not path.is_relative_to("/src") or not path.exists():
        return None
    return path.relative_to("/src").as_posix()


if __name__ == "__main__":
    main()
