"""Run an analysis that is a library, over source files, and print what it found as JSON.

Their own command lines can't be relied on: one says nothing where all is well, one gives no line numbers,
one stops at the first file that is no Python. Files are read, never imported.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
import sys
import tokenize
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Work:
    """What an analysis is given."""

    sources: dict[str, str]
    """Text by path."""
    unreadable: dict[str, str]
    """By path, why it can't be analysed; an analysis adds to it."""
    configured: bool
    """Take the project's own configuration."""
    min_confidence: int


def main() -> None:
    """Print `{"files": number, "unreadable": {path: reason}, …}` with what the analysis adds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("analysis", choices=sorted(_ANALYSES))
    parser.add_argument("--without", action="append", default=[], help="a folder that is left out")
    parser.add_argument("--configured", action="store_true", help="take the project's own configuration")
    parser.add_argument("--min-confidence", type=int, default=80)
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the project's source: invalid escapes and their like
    sources, unreadable = _read(options.paths, options.without)
    work = Work(sources, unreadable, options.configured, options.min_confidence)
    found = _ANALYSES[options.analysis](work)
    report = {"files": len(sources), "unreadable": unreadable, **found}
    print(json.dumps(report, sort_keys=True))  # noqa: T201 - its report


def _read(paths: list[str], without: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    sources: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for path in sorted(_files(paths, without), key=str):
        try:
            with tokenize.open(path) as file:
                text = file.read()
            ast.parse(text, type_comments=True)
            sources[path.as_posix()] = text
        except (SyntaxError, ValueError, RecursionError, OSError) as error:
            unreadable[path.as_posix()] = f"{type(error).__name__}: {error}"
    return sources, unreadable


def _files(paths: list[str], without: list[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            left_out = any(file.is_relative_to(folder) for folder in without)
            if not left_out and file.is_file() and not file.is_symlink():
                yield file


def _vulture(work: Work) -> dict[str, Any]:
    """What nothing refers to; the confidence is vulture's own, in percent."""
    settings: dict[str, Any] = _library("vulture.config").make_config(["."]) if work.configured else {}
    vulture = _library("vulture.core").Vulture(
        ignore_names=settings.get("ignore_names"), ignore_decorators=settings.get("ignore_decorators")
    )
    vulture.scavenge(list(work.sources), exclude=settings.get("exclude"))
    here = Path.cwd()
    return {
        "found": [
            {
                "path": Path(item.filename).resolve().relative_to(here.resolve()).as_posix(),
                "line": item.first_lineno,
                "end_line": item.last_lineno,
                "kind": item.typ,
                "message": item.message,
                "confidence": item.confidence,
            }
            for item in vulture.get_unused_code(min_confidence=work.min_confidence)
        ]
    }


def _interrogate(work: Work) -> dict[str, Any]:
    """Which modules, classes and functions have a docstring."""
    config = _library("interrogate.config")
    given: dict[str, Any] = config.parse_pyproject_toml("pyproject.toml") if work.configured else {}
    known = {field.name for field in config.attr.fields(config.InterrogateConfig)}
    settings: dict[str, Any] = {name: value for name, value in given.items() if name in known}
    for name in ("ignore_regex", "include_regex"):
        expressions: Any = settings.get(name) or []
        expressions = [expressions] if isinstance(expressions, str) else expressions
        settings[name] = [re.compile(expression) for expression in expressions]
    excluded = tuple(given.get("exclude", []))
    paths = [path for path in work.sources if not excluded or not path.startswith(excluded)]
    if settings.get("ignore_init_module"):
        paths = [path for path in paths if Path(path).name != "__init__.py"]
    conf = config.InterrogateConfig(**settings)
    interrogate = _library("interrogate.coverage").InterrogateCoverage
    docstrings: dict[str, Any] = {}
    for path in paths:
        try:
            counted = interrogate(paths=[path], conf=conf).get_coverage()
        except UnicodeDecodeError as error:  # it reads UTF-8 only
            work.unreadable[path] = f"{type(error).__name__}: {error}"
            continue
        if counted.total:
            docstrings[path] = {"documented": counted.covered, "definitions": counted.total}
    return {"docstrings": docstrings}


def _radon(work: Work) -> dict[str, Any]:
    """Cyclomatic complexity of each function, nested ones apart, and the maintainability of each file."""
    mi_visit, visitors = _library("radon.metrics").mi_visit, _library("radon.visitors")
    modules: dict[str, Any] = {}
    for path, text in work.sources.items():
        try:
            tree = ast.parse(text)
            visitor = visitors.ComplexityVisitor.from_ast(tree)
            maintainability = mi_visit(text, multi=True)
        except (RecursionError, ValueError, KeyError, AttributeError, TypeError) as error:
            work.unreadable[path] = f"{type(error).__name__}: {error}"
            continue
        ends = {(node.lineno, node.col_offset): node.end_lineno for node in _functions(tree)}
        modules[path] = {
            "maintainability": round(maintainability, 2),
            "functions": [
                {
                    "name": name,
                    "line": function.lineno,
                    "end_line": ends[function.lineno, function.col_offset],
                    "cyclomatic": function.complexity,
                }
                for name, function in [
                    *_closures("", visitor.functions),
                    *(found for each in visitor.classes for found in _methods("", each)),
                ]
            ],
        }
    return {"modules": modules}


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _methods(prefix: str, found: Any) -> Iterator[tuple[str, Any]]:
    yield from _closures(f"{prefix}{found.name}.", found.methods)
    for inner in found.inner_classes:
        yield from _methods(f"{prefix}{found.name}.", inner)


def _closures(prefix: str, functions: list[Any]) -> Iterator[tuple[str, Any]]:
    for function in functions:
        yield f"{prefix}{function.name}", function
        yield from _closures(f"{prefix}{function.name}.", function.closures)


def _complexipy(work: Work) -> dict[str, Any]:
    """Cognitive complexity of each function, with those that are nested in it; suppressed ones too."""
    file_complexity = _library("complexipy").file_complexity
    modules: dict[str, Any] = {}
    for path in work.sources:
        try:
            functions = file_complexity(path, no_ignore=True, with_plans=False).functions
        except ValueError as error:
            work.unreadable[path] = f"{type(error).__name__}: {error}"
            continue
        modules[path] = {
            "functions": [
                {
                    "name": function.name.replace("::", "."),
                    "line": function.line_start,
                    "end_line": function.line_end,
                    "cognitive": function.complexity,
                }
                for function in functions
            ]
        }
    return {"modules": modules}


def _library(name: str) -> Any:
    """One analysis a run: the others needn't be loaded, nor be there. They have no types."""
    return importlib.import_module(name)


_ANALYSES: dict[str, Callable[[Work], dict[str, Any]]] = {
    "complexipy": _complexipy,
    "interrogate": _interrogate,
    "radon": _radon,
    "vulture": _vulture,
}

if __name__ == "__main__":
    sys.exit(main())
