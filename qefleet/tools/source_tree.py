"""A module's source as functions with their lines: what segments and mutants are cut from."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A function of a module, or a method of a class at any depth; nested functions belong to theirs."""

    qualname: str
    node: Function
    classes: tuple[ast.ClassDef, ...]
    """The classes around it, outermost first."""

    @property
    def start(self) -> int:
        """First line, decorators included."""
        return min([self.node.lineno, *(item.lineno for item in self.node.decorator_list)])

    @property
    def end(self) -> int:
        """Last line."""
        return self.node.end_lineno or self.node.lineno

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters that a caller gives, without `self` or `cls`."""
        names = [item.arg for item in required_and_optional(self.node)]
        static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in self.node.decorator_list)
        return names[1:] if self.classes and not static else names


@dataclass(frozen=True)
class SourceTree:
    """One parsed source file."""

    text: str
    lines: tuple[str, ...]
    module: ast.Module
    definitions: tuple[Definition, ...]

    def slice(self, start: int, end: int) -> str:
        """The lines from `start` to `end`, both counted from 1 and included."""
        return "\n".join(self.lines[start - 1 : end])

    def enclosing(self, line: int) -> Definition | None:
        """The function that a line belongs to; None at the level of the module or of a class."""
        return next((item for item in self.definitions if item.start <= line <= item.end), None)

    def statement_lines(self, starts: set[int]) -> set[int]:
        """All lines of the statements that begin on these lines; of compound statements, their heads."""
        found = set(starts)
        for first, last in self._statements():
            if first in starts:
                found.update(range(first, last + 1))
        return found

    def statements_with(self, lines: set[int]) -> set[int]:
        """First lines of the statements that have one of these lines; of compound ones, their heads count."""
        return {first for first, last in self._statements() if not lines.isdisjoint(range(first, last + 1))}

    def _statements(self) -> Iterator[tuple[int, int]]:
        """First and last line of each statement; of compound statements, of their heads."""
        for node in ast.walk(self.module):
            if isinstance(node, ast.stmt):
                body: list[ast.stmt] = getattr(node, "body", [])
                yield node.lineno, body[0].lineno - 1 if body else node.end_lineno or node.lineno


def read_source(path: Path) -> SourceTree | None:
    """Parse a source file; None when it isn't readable Python."""
    try:
        return parse_source(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def parse_python(text: str) -> ast.Module:
    """Parse somebody else's code, whose questionable escapes are no warnings of ours.

    Raises:
        SyntaxError: It isn't Python, or too deeply nested to be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or "it is too deeply nested") from error


def parse_source(text: str) -> SourceTree | None:
    """Parse source text; None when it isn't Python."""
    try:
        module = parse_python(text)
    except SyntaxError:
        return None
    found: list[Definition] = []
    _collect(module.body, (), found)
    # split at "\n" only, as the parser counts; str.splitlines also breaks at form feeds
    return SourceTree(text, tuple(text.split("\n")), module, tuple(found))


def required_and_optional(node: Function) -> list[ast.arg]:
    """A function's own parameters in order, without `*args` and `**kwargs`."""
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _collect(body: list[ast.stmt], classes: tuple[ast.ClassDef, ...], found: list[Definition]) -> None:
    for node in body:
        if isinstance(node, Function):
            name = ".".join([*(item.name for item in classes), node.name])
            found.append(Definition(name, node, classes))
        elif isinstance(node, ast.ClassDef):
            _collect(node.body, (*classes, node), found)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for inner in (node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])):
                _collect(inner, classes, found)
            for handler in getattr(node, "handlers", []):
                _collect(handler.body, classes, found)
