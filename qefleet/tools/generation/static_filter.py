"""The first filter: what a proposed test's syntax tree already tells."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from qefleet.contracts.generation import Segment
from qefleet.tools.generation.proposal import Import, ProposedTest
from qefleet.tools.ground import Ground, read_json, run_program
from qefleet.tools.project import Layout
from qefleet.tools.source_tree import Function, SourceTree, parse_python
from qefleet.workspace.sandbox import Limits

_SKIPS = frozenset(
    {"skip", "skipif", "xfail", "importorskip", "skipTest", "skipIf", "skipUnless", "SkipTest"}
)
_SKIPS_OWNERS = frozenset({"expectedFailure"})
_EXPECTS = frozenset({"raises", "warns", "deprecated_call", "fail"})
_OUTSIDE = frozenset(
    {
        "socket", "ssl", "subprocess", "multiprocessing", "ctypes", "pty", "urllib", "http", "ftplib",
        "smtplib", "xmlrpc", "requests", "httpx", "aiohttp", "urllib3", "webbrowser", "shutil", "importlib",
        "signal", "resource", "pathlib", "builtins", "runpy", "pickle", "marshal",
    }
)  # fmt: skip
"""Modules with which a test reaches beyond the code: another process, the network, files of others."""
_OUTSIDE_NAMES = frozenset({"open", "exec", "eval", "compile", "__import__", "__builtins__", "__loader__"})
_OUTSIDE_OF_OS = frozenset(
    {
        "environ", "environb", "getenv", "system", "popen", "kill", "fork", "remove", "unlink", "rmdir",
        "removedirs", "rename", "replace", "chmod", "chown", "symlink", "link", "open", "putenv",
    }
)  # fmt: skip


def static_problem(test: ProposedTest, segment: Segment) -> str | None:
    """Why a test can't be a good one, whatever it does when it runs; None when nothing is wrong.

    Args:
        test: The test with its helpers.
        segment: What it is to test.
    """
    helpers = [parse_python(helper.source) for helper in test.helpers]
    nodes = [item for tree in [test.node, *helpers] for item in ast.walk(tree)]
    if found := next((name for item in nodes if (name := _skips(item))), None):
        return f"it uses {found}: a test that may be skipped or expected to fail proves nothing"
    if test.unresolved:
        return f"nothing defines {', '.join(test.unresolved)}: import or define what the test uses"
    own = segment.qualname.split(".", 1)[0]
    inner = [item for item in ast.walk(test.node) if item is not test.node]
    if any(isinstance(item, Function | ast.ClassDef) and item.name == own for item in inner):
        return f"it defines its own {own}: test the project's, imported from {segment.module}"
    asserting = [helper for helper in helpers if _assertions(helper)]
    names = {node.name for tree in asserting for node in tree.body if isinstance(node, Function)}
    found = [*_assertions(test.node), *_calls_of(test.node, names)]
    if not found:
        return "it asserts nothing: compare results with expected values by assert, or use pytest.raises"
    if all(isinstance(item, ast.Assert) and _trivial(item.test) for item in found):
        return "its assertions are always true: compare what the code returns with an expected value"
    return None


def reaching_problem(test: ProposedTest, subject: SourceTree) -> str | None:
    """Why a test must not be kept even if it passes: it reaches beyond the code, and the code doesn't.

    It runs in the sandbox here, and later where its user runs the suite: a repository can't have a model
    write a test that does harm there.
    """
    reaching = _reaches_out(test) - _words(subject.module)
    if not reaching:
        return None
    names = ", ".join(sorted(reaching))
    return f"it uses {names}, which the code under test doesn't: no files, processes or network in a test"


def weakened(before: Function, after: Function) -> str | None:
    """Why a test checks less than it did; None where its syntax tree shows no such thing.

    Args:
        before: The test as it was.
        after: As it is to be.
    """
    if found := next((name for item in ast.walk(after) if (name := _skips(item))), None):
        return f"it uses {found}: a test that may be skipped or expected to fail proves nothing"
    old, new = _assertions(before), _assertions(after)
    if len(new) < len(old):
        return f"it asserts {len(new)} things where the test asserted {len(old)}: keep all of them"
    if sum(map(_says_nothing, new)) > sum(map(_says_nothing, old)):
        return "one of its assertions is always true"
    return None


async def resolve_imports(
    ground: Ground, tests: Sequence[ProposedTest], segment: Segment, subject: SourceTree, layout: Layout
) -> list[tuple[ProposedTest, str | None]]:
    """Check in the target's environment that each import works; mend those that name the wrong module.

    Args:
        ground: The project's workspace.
        tests: Tests as proposed.
        segment: What they are to test.
        subject: Its source file.
        layout: The project's layout.

    Returns:
        Each test, perhaps with a mended import, and why it can't be imported, if so.
    """
    if not tests:
        return []
    wanted = sorted({(item.module, item.name or "") for test in tests for item in test.imports})
    absolute = [pair for pair in wanted if not pair[0].startswith(".")]
    outcome = await run_program(
        ground,
        "qe_imports",
        [[module, name or None] for module, name in absolute],
        collect=["imports.json"],
        env={"QE_TEST_FOLDER": layout.test_folder},
        limits=replace(Limits(), wall_s=30.0),
    )
    answers = read_json(outcome.outputs.get("imports.json"))
    if not isinstance(answers, list) or len(answers) != len(absolute):  # pyright: ignore[reportUnknownArgumentType] - JSON
        answers = ["importing it ended or hung the process"] * len(absolute)
    problems: dict[tuple[str, str], str | None] = dict(zip(absolute, answers, strict=True))  # pyright: ignore[reportUnknownArgumentType] - JSON
    problems |= {pair: "a relative import" for pair in wanted if pair[0].startswith(".")}
    offered = {node.name for node in subject.module.body if isinstance(node, Function | ast.ClassDef)}
    return [_mended(test, problems, offered, segment.module) for test in tests]


def _mended(
    test: ProposedTest, problems: dict[tuple[str, str], str | None], offered: set[str], module: str
) -> tuple[ProposedTest, str | None]:
    imports: list[Import] = []
    for item in test.imports:
        problem = problems[item.module, item.name or ""]
        if problem is None:
            imports.append(item)
        elif item.name in offered:
            imports.append(replace(item, module=module))
        else:
            return test, f"`{item.statement}` does not work here: {problem}"
    return replace(test, imports=tuple(imports)), None


def _reaches_out(test: ProposedTest) -> set[str]:
    """What a test uses of the world beyond itself."""
    helpers = [parse_python(helper.source) for helper in test.helpers]
    nodes = [item for tree in [test.node, *helpers] for item in ast.walk(tree)]
    imports = {(item.module, item.name or "") for item in test.imports}
    for node in nodes:
        match node:
            case ast.Import(names=aliases):
                imports |= {(alias.name, "") for alias in aliases}
            case ast.ImportFrom(module=source, names=aliases):
                imports |= {(source or "", alias.name) for alias in aliases}
            case _:
                pass
    modules = {module.partition(".")[0] for module, _ in imports} & _OUTSIDE
    from_os = {name for module, name in imports if module == "os"} & _OUTSIDE_OF_OS
    names = {node.id for node in nodes if isinstance(node, ast.Name)} & _OUTSIDE_NAMES
    of_os = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    } & _OUTSIDE_OF_OS
    return modules | from_os | names | of_os


def _words(module: ast.Module) -> set[str]:
    """All names that a module uses or imports."""
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add(name)
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=source, names=names):
                found |= {(source or "").partition(".")[0], *(alias.name for alias in names)}
            case _:
                pass
    return found


def _says_nothing(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) and _trivial(node.test)


def _skips(node: ast.AST) -> str | None:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name if name in _SKIPS | _SKIPS_OWNERS else None


def _assertions(node: ast.AST) -> list[ast.AST]:
    """What can fail the test: outside of `try` blocks that swallow failures."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Try) and _swallows(child):
            for part in [*child.orelse, *child.finalbody]:
                found += [part, *_assertions(part)] if isinstance(part, ast.Assert) else _assertions(part)
            continue
        if isinstance(child, ast.Assert) or (isinstance(child, ast.Call) and _expects(child)):
            found.append(child)
        found += _assertions(child)
    return found


def _swallows(node: ast.Try) -> bool:
    """A handler for assertion errors (or all) that goes on as if nothing had happened."""
    for handler in node.handlers:
        caught = (
            {item.id for item in ast.walk(handler.type) if isinstance(item, ast.Name)}
            if handler.type
            else set[str]()
        )
        broad = handler.type is None or caught & {"Exception", "BaseException", "AssertionError"}
        if broad and not any(
            isinstance(i, ast.Raise | ast.Assert | ast.Call) for b in handler.body for i in ast.walk(b)
        ):
            return True
    return False


def _expects(node: ast.Call) -> bool:
    match node.func:
        case ast.Attribute(attr=name):
            return name in _EXPECTS or name.startswith("assert")
        case ast.Name(id=name):
            return name in {"raises", "warns"} or name.startswith("assert_")
        case _:
            return False


def _calls_of(node: ast.AST, names: set[str]) -> list[ast.AST]:
    return [
        item
        for item in ast.walk(node)
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id in names
    ]


def _trivial(expression: ast.expr) -> bool:
    """True of expressions that say nothing about the code: constants only, or a thing equal to itself.

    `assert False` is none of them: it marks a place that must not be reached.
    """
    if isinstance(expression, ast.Constant) and not expression.value:
        return False
    if not any(isinstance(item, ast.Name | ast.Call | ast.Attribute) for item in ast.walk(expression)):
        return True
    match expression:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            calls = any(isinstance(item, ast.Call) for item in ast.walk(expression))
            return not calls and ast.dump(left) == ast.dump(right)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(
                _trivial(value) and isinstance(value, ast.Constant) and bool(value.value) for value in values
            )
        case _:
            return False
