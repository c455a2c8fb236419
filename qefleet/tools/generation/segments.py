"""Pieces of source for which tests are wanted, the most rewarding first."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from qefleet.contracts.generation import Segment
from qefleet.tools.project import read_layout
from qefleet.tools.source_tree import Definition, SourceTree, read_source, required_and_optional

_MOST_LINES = 50
_HEADER_LINES = 14
_MOST_FILE_BYTES = 1 << 20
_WORLD = frozenset(
    {
        "ArgumentParser", "Popen", "Thread", "_getframe", "argparse", "chmod", "ctypes", "environ",
        "exc_info", "exec", "execv", "exit", "fork", "gc", "getenv", "gethostname", "getpass",
        "httpx", "input", "listdir", "makedirs", "mkdir", "msvcrt", "multiprocessing", "open",
        "pdb", "popen", "remove", "rename", "requests", "rmtree", "set_trace", "shutil", "signal",
        "sleep", "socket", "stderr", "stdin", "stdout", "subprocess", "system", "threading",
        "tkinter", "tracemalloc", "unlink", "urlopen", "walk", "winreg",
    }
)  # fmt: skip
"""Names of what a small model gets wrong in tests: files, network, processes, clocks, the interpreter."""


def find_segments(
    project: Path,
    open_lines: Mapping[str, Sequence[int]],
    open_branches: Mapping[str, Sequence[tuple[int, int]]],
    *,
    most: int = 200,
) -> list[Segment]:
    """Cut what is still uncovered into segments and rank them.

    Args:
        project: The project's folder on this machine.
        open_lines: Missing statements by file.
        open_branches: Missing branches by file.
        most: How many to return.
    """
    layout = read_layout(project)
    found: list[Segment] = []
    for file in sorted(open_lines.keys() | open_branches.keys()):
        module = layout.module_of(file)
        path = project / file
        if module is None or module.endswith("__main__") or path.stat().st_size > _MOST_FILE_BYTES:
            continue
        tree = read_source(path)
        if tree is None:
            continue
        lines, branches = set(open_lines.get(file, ())), list(open_branches.get(file, ()))
        for definition in tree.definitions:
            found += _segments(
                tree, definition, file=file, module=module, open_lines=lines, open_branches=branches
            )
    found.sort(key=lambda segment: (-segment.score, segment.id))
    return found[:most]


def score(definition: Definition, source: str, missing_lines: int, missing_branches: int) -> float:
    """How much a test for this function is likely to gain for little effort.

    What is missing counts up to a point (a huge function isn't won by one test), times how easily a
    small model writes a right test for it: short, public, documented by examples, few parameters, and
    no network, files, processes or clocks.
    """
    node, doc = definition.node, ast.get_docstring(definition.node) or ""
    names = _names(node)
    length = definition.end - definition.start + 1 - doc.count("\n")
    required = len(required_and_optional(node)) - len(node.args.defaults)
    required += -len([d for d in node.args.kw_defaults if d is not None]) - bool(definition.classes)
    value = min(missing_lines, 15) + 0.5 * min(missing_branches, 10)
    value *= 1.3 if length <= 15 else 1.0 if length <= 30 else 0.6  # noqa: PLR2004 - the lengths as people read them
    value *= 1.6 if ">>>" in doc else 1.1 if doc else 0.9
    value *= {0: 0.8, 1: 1.3, 2: 1.1, 3: 0.8}.get(max(required, 0), 0.5)
    value *= _visibility(definition)
    if definition.classes:
        value *= 0.6
    if names & _WORLD:
        value *= 0.2
    if node.name in {"main", "cli", "run"} or isinstance(node, ast.AsyncFunctionDef):
        value *= 0.2
    if "yield" in source:
        value *= 0.9
    # the rest of a function that tests already call is an odd corner: harder than a first call
    statements = sum(isinstance(item, ast.stmt) for item in ast.walk(node)) - 1
    value *= 0.6 + 0.4 * min(1.0, missing_lines / max(1, statements - bool(doc)))
    return round(value, 3)


def _visibility(definition: Definition) -> float:
    name = definition.node.name
    if any(item.name.startswith("_") for item in definition.classes):
        return 0.3
    if name.startswith("__") and name.endswith("__"):
        return 0.6
    return 0.4 if name.startswith("_") else 1.0


def _names(node: ast.AST) -> set[str]:
    names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
    return names | {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}


def _segments(
    tree: SourceTree,
    definition: Definition,
    *,
    file: str,
    module: str,
    open_lines: set[int],
    open_branches: Sequence[tuple[int, int]],
) -> Iterable[Segment]:
    for start, end in _pieces(definition, open_lines):
        lines = sorted(line for line in open_lines if start <= line <= end)
        branches = sorted(pair for pair in open_branches if start <= pair[0] <= end)
        if not lines and not branches:
            continue
        whole = (start, end) == (definition.start, definition.end)
        source = tree.slice(start, end)
        if not whole:
            source = _signature(tree, definition) + f"\n    ...  # lines {start} to {end}:\n" + source
        name = (definition.classes[0] if definition.classes else definition.node).name
        yield Segment(
            id=f"{module}:{definition.qualname}" + ("" if whole else f"@{start}"),
            file=file,
            module=module,
            qualname=definition.qualname,
            start_line=start,
            end_line=end,
            source=source,
            missing_lines=lines,
            missing_branches=branches,
            parameters=definition.parameters,
            class_header=_class_header(tree, definition),
            import_line=f"from {module} import {name}",
            score=score(definition, source, len(lines), len(branches)),
        )


def _pieces(definition: Definition, open_lines: set[int]) -> Iterable[tuple[int, int]]:
    """The whole function where it is short enough, else windows that begin at something missing."""
    if definition.end - definition.start < _MOST_LINES:
        yield definition.start, definition.end
        return
    covered_to = 0
    for line in sorted(line for line in open_lines if definition.start <= line <= definition.end):
        if line > covered_to:
            start = max(definition.start, line - 5, covered_to + 1)
            covered_to = min(definition.end, start + _MOST_LINES - _HEADER_LINES - 1)
            yield start, covered_to


def _signature(tree: SourceTree, definition: Definition) -> str:
    body = definition.node.body[0]
    return tree.slice(definition.start, max(definition.node.lineno, body.lineno - 1))


def _class_header(tree: SourceTree, definition: Definition) -> str:
    """The class statement, and the constructor as far as it is short."""
    if not definition.classes:
        return ""
    node = definition.classes[-1]
    lines = tree.slice(node.lineno, max(node.lineno, node.body[0].lineno - 1)).split("\n")[:3]
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__" and item is not definition.node:
            end = min(item.end_lineno or item.lineno, item.lineno + _HEADER_LINES - len(lines) - 1)
            lines += tree.slice(item.lineno, end).split("\n")
    return "\n".join(lines)
