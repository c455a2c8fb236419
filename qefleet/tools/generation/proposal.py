"""A proposed test file taken apart: single tests, each with exactly the imports and helpers that it needs."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from qefleet.contracts.generation import Segment
from qefleet.tools.source_tree import Function, SourceTree, parse_python

_FENCE = re.compile(r"^\s*(```|~~~)[\w+-]*\s*$")
_TOP_LEVEL = re.compile(r"^(@|async |def |class |import |from |[A-Za-z_][\w.]*\s*(=|:)|if |try:|with |for )")


@dataclass(frozen=True)
class Import:
    """One name that an import statement binds."""

    binds: str
    module: str
    """What is imported, or from where; starts with dots for a relative import."""
    name: str | None
    """None for `import module`."""

    @property
    def statement(self) -> str:
        """The statement that binds this name alone."""
        if self.name is None:
            alias = "" if self.binds == self.module.split(".", 1)[0] else f" as {self.binds}"
            return f"import {self.module}{alias}"
        alias = "" if self.binds == self.name else f" as {self.binds}"
        return f"from {self.module} import {self.name}{alias}"


@dataclass(frozen=True)
class Helper:
    """A statement of the module that binds names: a function, fixture, class or constant."""

    binds: frozenset[str]
    uses: frozenset[str]
    source: str
    always: bool = False
    """An autouse fixture, which belongs to every test."""


@dataclass(frozen=True)
class ProposedTest:
    """One test with what it needs."""

    name: str
    source: str
    """The function, or a class with this one test; without imports."""
    node: ast.stmt
    imports: tuple[Import, ...]
    helpers: tuple[Helper, ...]
    unresolved: tuple[str, ...] = ()
    """Names that nothing defines."""
    notes: tuple[str, ...] = ()

    @property
    def import_lines(self) -> list[str]:
        """Its import statements, sorted."""
        return sorted({item.statement for item in self.imports})

    @property
    def text(self) -> str:
        """A test file with this test alone."""
        parts = ["\n".join(self.import_lines), *(helper.source for helper in self.helpers), self.source]
        return "\n\n\n".join(part for part in parts if part) + "\n"


@dataclass(frozen=True)
class Proposal:
    """All tests of a proposal, and the pieces that could not be read."""

    tests: tuple[ProposedTest, ...]
    unreadable: tuple[tuple[str, str], ...]
    """Name and syntax error of each piece that isn't Python."""
    skipped_as_a_whole: bool = False
    """The module marks all of its tests as skipped or expected to fail."""


def read_proposal(text: str, segment: Segment, subject: SourceTree) -> Proposal:
    """Take a proposal apart.

    Fences and prose around the code go. A copy of something that the module under test defines is
    dropped and the real one imported, and so is a wrong or missing import of one of its names: what is
    tested is always the project's own code.

    Args:
        text: What the proposer wrote.
        segment: What it was asked to test.
        subject: The source file under test.
    """
    statements, unreadable, source = _statements(_without_fences(text))
    names = _Names(segment, subject)
    parts = _Parts(source, names)
    for statement in statements:
        parts.add(statement)
    return Proposal(
        tests=tuple(_with_needs(test, parts, names) for test in parts.tests),
        unreadable=tuple(unreadable),
        skipped_as_a_whole=parts.skipped,
    )


def free_names(node: ast.AST) -> frozenset[str]:
    """Names that code takes from around it: loaded somewhere, bound nowhere within."""
    loaded: set[str] = set()
    bound: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Name):
            (loaded if isinstance(item.ctx, ast.Load) else bound).add(item.id)
        elif isinstance(item, ast.arg):
            bound.add(item.arg)
        elif isinstance(item, Function | ast.ClassDef) and item is not node:
            bound.add(item.name)
        elif isinstance(item, ast.alias):
            bound.add((item.asname or item.name).split(".", 1)[0])
        elif isinstance(item, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and item.name:
            bound.add(item.name)
    return frozenset(loaded - bound)


class _Names:
    """What the module under test offers."""

    def __init__(self, segment: Segment, subject: SourceTree) -> None:
        self.module = segment.module
        self.defined = {
            node.name for node in subject.module.body if isinstance(node, Function | ast.ClassDef)
        }
        self.offered = {name for node in subject.module.body for name in _bound(node)}
        self._own_imports = {
            item.binds: item
            for node in subject.module.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for item in _imports(node)
            if not item.module.startswith(".")
        }

    def import_of(self, name: str) -> Import | None:
        """How to get a name that a test uses without importing it."""
        if name in self._own_imports:
            return self._own_imports[name]
        if name in self.offered:
            return Import(name, self.module, name)
        if name == "pytest" or (name in sys.stdlib_module_names and not name.startswith("_")):
            return Import(name, name, None)
        if name == self.module.rsplit(".", 1)[-1] and "." in self.module:
            return Import(name, self.module.rsplit(".", 1)[0], name)
        return None


class _Parts:
    """The proposal's statements, sorted."""

    def __init__(self, source: list[str], names: _Names) -> None:
        self._source, self._names = source, names
        self.imports: dict[str, Import] = {}
        self.helpers: list[Helper] = []
        self.tests: list[ProposedTest] = []
        self.notes: list[str] = []
        self.skipped = False

    def add(self, node: ast.stmt) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self.imports |= {item.binds: item for item in _imports(node)}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if (
                node.name in self._names.defined
            ):
                self.notes.append(f"a copy of {node.name} was dropped and the real one imported")
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name.startswith("test"):
                self._test(node.name, self._text(node))
            case ast.ClassDef() if node.name.startswith("Test") or _has_tests(node):
                self._class(node)
            case ast.Assign() if "pytestmark" in _bound(node):
                self.skipped |= any(word in self._text(node) for word in ("skip", "xfail"))
            case _:
                binds = _bound(node)
                if binds and not isinstance(node, ast.For | ast.While | ast.With):
                    text = self._text(node)
                    self.helpers.append(
                        Helper(frozenset(binds), free_names(node), text, "autouse=True" in text)
                    )

    def _test(self, name: str, source: str) -> None:
        parsed = parse_python(source).body[0]
        self.tests.append(ProposedTest(name, source, parsed, (), ()))

    def _class(self, node: ast.ClassDef) -> None:
        """One candidate a test method: a plain function where the method needs nothing of its class."""
        methods = [item for item in node.body if isinstance(item, Function) and item.name.startswith("test")]
        others = [item for item in node.body if item not in methods and not _is_docstring(item)]
        for method in methods:
            if not node.bases and not node.decorator_list and not others and not _uses_self(method):
                self._test(method.name, _as_function(method, self._text(method)))
                continue
            head = "\n".join(self._source[_first(node) - 1 : _first(node.body[0]) - 1])
            body = [self._text(item) for item in [*others, method]]
            name = f"{node.name}_{method.name}"
            source = head.replace(f"class {node.name}", f"class {name}", 1) + "\n" + "\n\n".join(body)
            self._test(name, source)

    def _text(self, node: ast.stmt) -> str:
        return "\n".join(self._source[_first(node) - 1 : node.end_lineno])


def _imports(node: ast.Import | ast.ImportFrom) -> list[Import]:
    """What a statement imports, name by name; names that a star would bring are found by their use."""
    if isinstance(node, ast.Import):
        return [Import(a.asname or a.name.split(".", 1)[0], a.name, None) for a in node.names]
    module = "." * node.level + (node.module or "")
    names = [] if module == "__future__" else [alias for alias in node.names if alias.name != "*"]
    return [Import(alias.asname or alias.name, module, alias.name) for alias in names]


def _with_needs(test: ProposedTest, parts: _Parts, names: _Names) -> ProposedTest:
    """Add the imports and helpers that a test uses, and those that these use."""
    wanted = set(free_names(test.node)) | _fixture_names(test.node)
    helpers: list[Helper] = [helper for helper in parts.helpers if helper.always]
    wanted |= {name for helper in helpers for name in helper.uses}
    while fresh := [h for h in parts.helpers if h not in helpers and h.binds & wanted]:
        helpers += fresh
        wanted |= {name for helper in fresh for name in helper.uses | _parsed_fixture_names(helper)}
    helpers.sort(key=parts.helpers.index)
    made = {name for helper in helpers for name in helper.binds}
    imports: list[Import] = []
    unresolved: list[str] = []
    fixtures = _fixture_names(test.node) | {n for h in helpers for n in _parsed_fixture_names(h)}
    for name in sorted(wanted - made):
        found = parts.imports.get(name) or (None if hasattr(builtins, name) else names.import_of(name))
        if found is not None and name not in fixtures:
            imports.append(found)
        elif not hasattr(builtins, name) and name not in fixtures and name not in {"__file__", "__name__"}:
            unresolved.append(name)
    return replace(
        test,
        imports=tuple(imports),
        helpers=tuple(helpers),
        unresolved=tuple(unresolved),
        notes=tuple(note for note in parts.notes if note.split()[3] in wanted),
    )


def _fixture_names(node: ast.AST) -> set[str]:
    """Parameters of tests and fixtures: pytest gives them, from here or from the project's conftest."""
    return {
        argument.arg
        for item in ast.walk(node)
        if isinstance(item, Function)
        for argument in [*item.args.posonlyargs, *item.args.args, *item.args.kwonlyargs]
    }


def _parsed_fixture_names(helper: Helper) -> set[str]:
    return _fixture_names(parse_python(helper.source)) if "fixture" in helper.source else set()


def _without_fences(text: str) -> str:
    """The code: what stands between fences where there are any, else all."""
    lines = text.replace("\r\n", "\n").replace("\x00", "").split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE.match(line)]
    if not fences:
        return "\n".join(lines)
    kept: list[str] = []
    for start, end in zip(fences[::2], [*fences[1::2], len(lines)], strict=False):
        kept += lines[start + 1 : end]
    return "\n".join(kept)


def _statements(text: str) -> tuple[list[ast.stmt], list[tuple[str, str]], list[str]]:
    """All statements that can be read; pieces of the top level that can't are told apart from the rest."""
    lines = text.split("\n")
    try:
        return parse_python(text).body, [], lines
    except SyntaxError:
        pass
    statements: list[ast.stmt] = []
    unreadable: list[tuple[str, str]] = []
    for start, end in _blocks(lines):
        try:
            # blank lines in front keep the line numbers
            statements += parse_python("\n" * start + "\n".join(lines[start:end])).body
        except SyntaxError as error:
            named = re.search(r"def (test\w*)", "\n".join(lines[start:end]))
            if named:
                unreadable.append((named[1], str(error)))
    return statements, unreadable, lines


def _blocks(lines: list[str]) -> Iterator[tuple[int, int]]:
    starts = [number for number, line in enumerate(lines) if _TOP_LEVEL.match(line)]
    decorated = {number for number in starts if number - 1 in starts and lines[number - 1].startswith("@")}
    starts = [number for number in starts if number not in decorated]
    if starts:
        yield from zip(starts, [*starts[1:], len(lines)], strict=True)


def _bound(node: ast.AST) -> set[str]:
    """Names that a statement of the module binds."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).split(".", 1)[0] for alias in node.names}
        case ast.If() | ast.Try():
            handlers: Iterable[ast.AST] = getattr(node, "handlers", [])
            inner = [*node.body, *node.orelse, *(s for h in handlers for s in getattr(h, "body", []))]
            return {name for item in inner for name in _bound(item)}
        case _:
            return {
                item.id
                for item in ast.walk(node)
                if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
            }


def _has_tests(node: ast.ClassDef) -> bool:
    return any(isinstance(item, Function) and item.name.startswith("test") for item in node.body)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _uses_self(method: Function) -> bool:
    own = method.args.args[0].arg if method.args.args else ""
    return any(isinstance(item, ast.Name) and item.id == own for item in ast.walk(method))


def _as_function(method: Function, source: str) -> str:
    lines = source.split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    own = method.args.args[0].arg if method.args.args else ""
    dedented = [line[indent:] if not line[:indent].strip() else line for line in lines]
    text = "\n".join(dedented)
    return (
        re.sub(rf"(def {method.name}\s*\(\s*){re.escape(own)}\s*,?\s*", r"\1", text, count=1) if own else text
    )


def _first(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(item.lineno for item in decorators)])
