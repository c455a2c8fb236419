"""Which tests a change could break: what they ran in the base, and what their files import.

What this can't see: a result that one test computes and a cache hands to another, code in other processes,
and files that tests read without importing anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from qefleet.contracts.regression import SelectedTest, Why
from qefleet.tools.changes.changed_code import CodeChange, compare_code
from qefleet.tools.changes.import_graph import ImportGraph
from qefleet.tools.project import Layout
from qefleet.tools.source_tree import SourceTree, read_source

_FIXTURE = "qe-fixture:"
_NAMED = 5
_CONFIGURATION = frozenset(
    {
        "pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "pytest.ini", ".pytest.ini", "pytest.toml",
        ".pytest.toml", ".coveragerc", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock",
    }
)  # fmt: skip
_RANK = {why: rank for rank, why in enumerate(Why)}


@dataclass(frozen=True)
class Reached:
    """Which tests ran which lines."""

    lines: Mapping[str, Mapping[int, frozenset[str]]]
    """By file and line, the contexts: node ids, shared fixtures, and the empty one of imports."""

    def tests(self, file: str, lines: Iterable[int], everything: Sequence[str]) -> set[str]:
        """Tests that ran one of these lines, themselves or by a fixture that they may share."""
        contexts = self.contexts(file, lines)
        found = {context for context in contexts if context and not context.startswith(_FIXTURE)}
        for fixture in (context for context in contexts if context.startswith(_FIXTURE)):
            found |= {*below(fixture.removeprefix(_FIXTURE), everything)}
        return found

    def contexts(self, file: str, lines: Iterable[int]) -> set[str]:
        """All contexts of these lines."""
        known = self.lines.get(file, {})
        return {context for line in lines for context in known.get(line, ())}


def read_reached(report: Any) -> Reached | None:
    """Read coverage.py's JSON with contexts; None when it is no such report."""
    try:
        files = cast("dict[str, dict[str, Any]]", report["files"])
        lines = {
            path: {int(line): frozenset(map(str, found)) for line, found in entry["contexts"].items()}
            for path, entry in files.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Reached(lines)


def below(place: str, tests: Iterable[str]) -> Iterator[str]:
    """Tests whose node ids lie under a node's, a file's or a folder's; all under the root."""
    root = place in {"", "."}
    return (t for t in tests if root or t == place or t.startswith((f"{place}::", f"{place}/", f"{place}[")))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a selection is made of."""

    base: Path | None
    """The base's files; None where there were none."""
    head: Path
    layout: Layout
    """Of the head."""
    differing: Mapping[str, str]
    """By path: `added`, `deleted` or `modified`."""
    before: Sequence[str]
    """Tests of the base."""
    now: Sequence[str]
    """Tests that there are."""
    reached: Reached
    """In the base."""
    graphs: Sequence[ImportGraph]
    """Of the head and of the base: what is gone has importers in the latter only."""


@dataclass
class Selection:
    """Tests to run, and what each changed file has to do with it."""

    reasons: dict[str, dict[str, Why]] = field(default_factory=dict[str, dict[str, Why]])
    """By node id, what it has to do with the change, and how."""
    by_file: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """By changed file, the tests that are selected because of it."""
    code: dict[str, CodeChange] = field(default_factory=dict[str, CodeChange])
    kinds: dict[str, str] = field(default_factory=dict[str, str])
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def ranked(self) -> list[SelectedTest]:
        """The most telling first: the strongest reason, then the most of them."""
        tests = [
            SelectedTest(
                node_id=test,
                why=min(found.values(), key=_RANK.__getitem__),
                because=sorted(found, key=lambda what: (_RANK[found[what]], what))[:_NAMED],
            )
            for test, found in self.reasons.items()
        ]
        return sorted(tests, key=lambda t: (_RANK[t.why], -len(self.reasons[t.node_id]), t.node_id))


def select_tests(facts: Facts) -> Selection:
    """Tests that run what has changed, or import it; new and changed tests among them."""
    return _Selecting(facts).run()


class _Selecting:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._found = Selection()
        self._now = frozenset(facts.now)

    def run(self) -> Selection:
        known = {*self._facts.before}
        for test in self._facts.now:
            if test not in known:
                self._add([test], test.partition("::")[0], test.partition("::")[0], Why.CHANGED)
        for path in self._facts.differing:
            self._found.by_file.setdefault(path, set())
            kind = self._found.kinds[path] = self._kind(path)
            if path.endswith(".py"):
                self._python(path, kind)
            else:
                self._other(path, kind)
        return self._found

    def _kind(self, path: str) -> str:
        name, layout = PurePosixPath(path).name, self._facts.layout
        if name == "conftest.py":
            return "conftest"
        if name in _CONFIGURATION or name.startswith("requirements"):
            return "configuration"
        inside_tests = path.startswith(tuple(f"{folder}/" for folder in layout.tests_inside))
        if path.endswith(".py"):
            if layout.is_test_file(path):
                return "test"
            return "source" if self._is_source(path) and not inside_tests else "module"
        if inside_tests or self._is_source(path) or path.startswith(f"{layout.test_folder}/"):
            return "data"
        return "other"

    def _is_source(self, path: str) -> bool:
        sources = self._facts.layout.sources
        return path in self._facts.reached.lines or path.startswith(tuple(f"{s}/" for s in sources))

    def _python(self, path: str, kind: str) -> None:
        change = self._found.code[path] = compare_code(
            _text(self._facts.base, path), _text(self._facts.head, path)
        )
        if change.nothing:
            self._found.notes[path] = "comments and blank lines only"
            return
        if kind == "conftest":
            self._add(below(str(PurePosixPath(path).parent), self._now), path, path, Why.SURROUNDINGS)
        elif kind == "configuration":
            self._add(self._now, path, path, Why.SURROUNDINGS)
        elif kind == "test":
            self._changed_tests(path, change)
            self._importing(path, beyond=True)
        else:
            beyond = change.beyond or kind == "module" or self._reach(path, change)
            self._importing(path, beyond=beyond)

    def _changed_tests(self, path: str, change: CodeChange) -> None:
        """Those that changed; all of the file where a helper, a fixture or anything else in it did."""
        names = {name.replace(".", "::") for name in change.functions}
        if change.beyond or any(not name.rpartition("::")[2].startswith("test") for name in names):
            self._add(below(path, self._now), path, path, Why.CHANGED)
        for name in names:
            self._add(below(f"{path}::{name}", self._now), f"{path}:{name}", path, Why.CHANGED)

    def _reach(self, path: str, change: CodeChange) -> bool:
        """Add the tests that ran what changed; whether some of it is run on import."""
        tree = read_source(self._facts.base / path) if self._facts.base else None
        on_import = False
        for name in sorted(change.functions):
            lines = _inside(tree, name) if tree else set[int]()
            tests = self._facts.reached.tests(path, lines, self._facts.before)
            self._add(tests, f"{path}:{name}", path, Why.REACHES)
            on_import |= "" in self._facts.reached.contexts(path, lines - _heads(tree, name))
        return on_import

    def _importing(self, path: str, *, beyond: bool) -> None:
        """Tests of files that import this one.

        Where it changed beyond its functions: also those that ran anything of it, or of what imports it
        through others.
        """
        direct = {file for graph in self._facts.graphs for file in graph.importers(path)}
        for file in direct:
            self._add(below(file, self._now), path, path, Why.IMPORTS)
        if not beyond:
            return
        self._add(self._ran(path), path, path, Why.IMPORTS)
        for file in {file for graph in self._facts.graphs for file in graph.all_importers(path)}:
            tests = {*below(file, self._now), *self._ran(file)}
            if PurePosixPath(file).name == "conftest.py":
                tests |= {*below(str(PurePosixPath(file).parent), self._now)}
            self._add(tests, path, path, Why.INDIRECT)

    def _ran(self, path: str) -> set[str]:
        """Tests that ran anything of a file."""
        lines = self._facts.reached.lines.get(path, {})
        return self._facts.reached.tests(path, lines, self._facts.before)

    def _other(self, path: str, kind: str) -> None:
        """Files that nothing imports: configuration is everybody's, data that of the tests around it."""
        own = [*below(path, self._now)]  # a text file with doctests
        self._add(own, path, path, Why.CHANGED)
        if kind == "configuration":
            self._add(self._now, path, path, Why.SURROUNDINGS)
        elif kind == "data":
            tests = self._around(path)
            self._add(tests, path, path, Why.SURROUNDINGS)
            if not tests:
                self._found.notes[path] = "no tool tells which tests read it"
        elif not own:
            self._found.notes[path] = "no tool tells which tests read it"

    def _around(self, path: str) -> set[str]:
        """Tests of the nearest folder above that has some, or that ran code of it."""
        for folder in PurePosixPath(path).parents:
            if str(folder) == ".":
                break
            ran = {t for file in self._facts.reached.lines if _in(file, folder) for t in self._ran(file)}
            if tests := {*below(str(folder), self._now)} | ran:
                return tests
        return set()

    def _add(self, tests: Iterable[str], what: str, path: str, why: Why) -> None:
        for test in self._now.intersection(tests):
            found = self._found.reasons.setdefault(test, {})
            if what not in found or _RANK[why] < _RANK[found[what]]:
                found[what] = why
            self._found.by_file.setdefault(path, set()).add(test)


def _in(file: str, folder: PurePosixPath) -> bool:
    return PurePosixPath(file).is_relative_to(folder)


def _text(root: Path | None, path: str) -> str | None:
    if root is None:
        return None
    try:
        return (root / path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _inside(tree: SourceTree, name: str) -> set[int]:
    """Lines of a function that are run when it is called."""
    return {
        line
        for item in tree.definitions
        if item.qualname == name
        for line in range(item.node.body[0].lineno, item.end + 1)
    }


def _heads(tree: SourceTree | None, name: str) -> set[int]:
    """Lines of its `def`, which are run on import."""
    found = [item.node for item in tree.definitions if item.qualname == name] if tree else []
    return {node.lineno for node in found}
