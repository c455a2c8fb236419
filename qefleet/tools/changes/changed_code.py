"""What has changed in a project's Python files, told by their syntax trees: functions, or more than that."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from qefleet.tools.source_tree import Function, SourceTree, parse_python, parse_source

_NOT_LOOKED_AT = frozenset({".git", "__pycache__", ".pytest_cache"})


@dataclass(frozen=True)
class CodeChange:
    """How one Python file differs."""

    functions: frozenset[str]
    """Qualified names of functions and methods that are different or gone."""
    beyond: bool
    """Something outside of functions changed too: what is executed when the module is imported."""
    added: frozenset[str] = frozenset()
    """New functions and classes of the module, which nothing in it has named before."""

    @property
    def nothing(self) -> bool:
        """Comments and blank lines only."""
        return not (self.functions or self.beyond or self.added)


def differing_files(base: Path, head: Path) -> dict[str, str]:
    """Files that two trees don't have in common: by path `added`, `deleted` or `modified`."""
    before, after = _files(base), _files(head)
    found = dict.fromkeys(after.keys() - before.keys(), "added")
    found |= dict.fromkeys(before.keys() - after.keys(), "deleted")
    found |= {
        path: "modified"
        for path in before.keys() & after.keys()
        if before[path].stat().st_size != after[path].stat().st_size
        or before[path].read_bytes() != after[path].read_bytes()
    }
    return dict(sorted(found.items()))


def compare_code(before: str | None, after: str | None) -> CodeChange:
    """How a Python file has changed.

    Args:
        before: Its source; None where it wasn't there.
        after: The same, now.
    """
    old, new = (parse_source(text) if text is not None else parse_source("") for text in (before, after))
    if old is None or new is None:
        return CodeChange(frozenset(), beyond=before != after)
    bodies, now = _bodies(old), _bodies(new)
    changed = frozenset(name for name, body in bodies.items() if now.get(name) != body)
    used = {node.id for node in ast.walk(old.module) if isinstance(node, ast.Name)}
    defined = {name for node in old.module.body if (name := _name(node))}
    added = frozenset({name for node in new.module.body if (name := _name(node))} - used - defined)
    return CodeChange(changed, _skeleton(old, frozenset()) != _skeleton(new, added), added)


def _files(root: Path) -> dict[str, Path]:
    return {
        relative.as_posix(): path
        for path in root.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not _NOT_LOOKED_AT.intersection((relative := path.relative_to(root)).parts)
        and path.suffix != ".pyc"
    }


def _name(node: ast.stmt) -> str | None:
    """Of an undecorated function or class: a decorator may enter it somewhere."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.decorator_list:
        return node.name
    return None


def _bodies(tree: SourceTree) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in tree.definitions:
        found.setdefault(item.qualname, []).append(ast.dump(item.node))
    return found


def _skeleton(tree: SourceTree, without: frozenset[str]) -> str:
    """All that is executed on import: the module without the insides of its functions."""
    module = parse_python(tree.text)  # to be taken apart
    module.body = [node for node in module.body if not ((name := _name(node)) and name in without)]
    for node in ast.walk(module):
        if isinstance(node, Function):
            node.body, node.args, node.returns = [], _NO_ARGUMENTS, None
    return ast.dump(module)


_NO_ARGUMENTS = ast.arguments([], [], None, [], [], None, [])
