"""Let Pynguin search for tests of one function, and take those that reach what nothing reaches yet.

Runs with the target's interpreter; Pynguin and detect-secrets come from the fleet's own environment, behind
all that the target has. A search changes what it imports, and may crash or hang with the code under test: it
is a process of its own, and so is the one that looks what each test reaches.

Pynguin copies constants of the project into tests. It is given those of the module, without docstrings and
without what looks like a secret, and a test that has come by a secret all the same isn't taken.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_SPEC = Path("/qe/spec.json")
_FOLDER = Path("/tmp/qe-pynguin")  # noqa: S108 - inside the sandbox
_TESTS = _FOLDER / "tests"
_REACHED = _FOLDER / "reached.json"
_LENGTH = 12
"""Statements of a test: what is longer says little to who reads it."""
_LONGEST = 40
"""Of a constant: what is longer is a message."""
_LONGEST_TEST = 2000
_ASK = (
    "import json, sys, sysconfig; print(json.dumps([sysconfig.get_path('purelib'), *sys.version_info[:2]]))"
)
_LAST_CHARS = 300


class _Problem(Exception):
    """Why there is no proposal."""


def main() -> None:
    """Do the part that the argument names; without one, all of them."""
    spec: dict[str, Any] = json.loads(_SPEC.read_text("utf-8"))
    sys.path[0] = str(Path.cwd())
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    if part == "search":
        sys.path.append(spec["packages"])
        _search(spec)
    elif part == "reach":
        _reach(spec)
    else:
        try:
            answer: dict[str, Any] = {"proposals": _propose(spec)}
        except _Problem as problem:
            answer = {"problem": str(problem)}
        Path("/out/proposal.json").write_text(json.dumps(answer), "utf-8")


def _propose(spec: dict[str, Any]) -> list[str]:
    packages, *theirs = json.loads(_started([spec["tools_python"], "-I", "-c", _ASK], "the fleet's Python"))
    if theirs != [*sys.version_info[:2]]:
        raise _Problem(
            f"the target has Python {sys.version_info[0]}.{sys.version_info[1]}, "
            f"and Pynguin is installed for {theirs[0]}.{theirs[1]}"
        )
    _TESTS.mkdir(parents=True)
    sys.path.append(packages)
    secrets = _secrets(spec["file"])
    more = {"packages": packages, "constants": _constants(spec["file"], secrets)}
    _SPEC.write_text(json.dumps(spec | more), "utf-8")
    try:
        log = _searched("--only-cover-line-ranges", f"{spec['start']}-{spec['end']}")
    except _Problem:  # some flows of control are too much for it; by name it calls more than the function
        log = _searched("--only-cover", spec["qualname"])
    found = next(_TESTS.glob("test_*.py"), None)
    if found is None:
        raise _Problem(f"Pynguin wrote no tests: {_told(log)}")
    secrets |= _secrets(str(found))
    tree = _tidied(ast.parse(found.read_text("utf-8")), spec)
    found.write_text(ast.unparse(tree), "utf-8")
    _started([sys.executable, __file__, "reach"], "running what Pynguin found")
    reached: dict[str, list[Any]] = json.loads(_REACHED.read_text("utf-8"))
    wanted = {*spec["missing_lines"], *(_place(branch) for branch in spec["missing_branches"])}
    taken: list[ast.FunctionDef] = []
    for test in _tests_of(tree):
        fresh = wanted & {_place(place) for place in reached[test.name]}
        if fresh and len(ast.unparse(test)) <= _LONGEST_TEST and not _tells(test, secrets):
            wanted -= fresh
            taken.append(test)
    name = spec["qualname"].replace(".", "_").strip("_").lower()
    head = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    for number, test in enumerate(taken, start=1):
        test.name = f"test_{name}_{number}"
    return [f"{head}\n\n\n{ast.unparse(test)}\n" for test in taken]


def _searched(*confined: str) -> str:
    return _started([sys.executable, __file__, "search", *confined], "Pynguin", PYNGUIN_DANGER_AWARE="1")


def _started(argv: list[str], what: str, **env: str) -> str:
    """What a process prints that has to end well; the sandbox limits its time."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | env, check=False
    )
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise _Problem(f"{what} ended with exit code {done.returncode}: {_told(text)}")
    return text


def _told(text: str) -> str:
    """The last error that a program has printed, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it printed nothing"]
    return ([line.rpartition("): ")[2] for line in lines if "[ERROR]" in line] or lines)[-1][:_LAST_CHARS]


def _constants(file: str, secrets: set[str]) -> list[str]:
    """The module's own, as source."""
    tree = ast.parse(Path(file).read_text("utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = {
        repr(node.value): None
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and id(node) not in prose
        and type(node.value) in {str, int, float, bytes}
        and len(repr(node.value)) <= _LONGEST
        and not _tells(node, secrets)
    }
    return list(found)


def _secrets(path: str) -> set[str]:
    """What detect-secrets finds in a file."""
    from detect_secrets.core.secrets_collection import (  # noqa: PLC0415 - from the fleet's environment
        SecretsCollection,
    )
    from detect_secrets.settings import default_settings  # noqa: PLC0415

    found = SecretsCollection()
    with default_settings():
        found.scan_file(path)
    return {secret.secret_value for _, secret in found if secret.secret_value}


def _tells(node: ast.AST, secrets: set[str]) -> bool:
    """Whether code has a secret in it."""
    for item in ast.walk(node):
        if isinstance(item, ast.Constant) and isinstance(item.value, str | bytes):
            text = item.value if isinstance(item.value, str) else item.value.decode("utf-8", "replace")
            if any(secret in text for secret in secrets):
                return True
    return False


def _search(spec: dict[str, Any]) -> None:
    # From the fleet's environment, an extra:
    from pynguin import generator  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]
    from pynguin.analyses.constants import ConstantPool  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]
    from pynguin.cli import main as pynguin  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]

    pool = ConstantPool()
    for constant in spec["constants"]:
        pool.add_constant(ast.literal_eval(constant))
    # It has no option for them: it would read all files of the project, docstrings included.
    generator.collect_static_constants = lambda *_, **__: pool  # pyright: ignore[reportUnknownLambdaType] - a stand-in
    given = {
        "project-path": str(_FOLDER),
        "module-name": spec["module"],
        "output-path": str(_TESTS),
        "element-visibility": "PROTECTED" if "._" in f".{spec['qualname']}" else "PUBLIC",
        "maximum-iterations": spec["iterations"],
        "chromosome-length": _LENGTH,
        "seed": 1,
        "assertion-generation": "SIMPLE",
        "no-xfail": True,
        "report-dir": str(_FOLDER / "report"),
        "use-master-worker": False,
        "subprocess-if-recommended": False,
        "format-with-black": False,
    }
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    warnings.simplefilter("ignore")
    sys.exit(pynguin(["pynguin", "--no-rich", *options, *sys.argv[2:]]))


def _reach(spec: dict[str, Any]) -> None:
    """Write down the lines and branches of the file that each test runs, if it passes."""
    file = inspect.getfile(importlib.import_module(spec["module"]))
    path = next(_TESTS.glob("test_*.py"))
    space: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), space)  # noqa: S102 - in the sandbox
    reached = {node.name: _places(space[node.name], file) for node in _tests_of(ast.parse(path.read_text()))}
    _REACHED.write_text(json.dumps(reached), "utf-8")


def _places(test: Callable[[], None], file: str) -> list[Any]:
    places: set[int | tuple[int, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event != "call" or frame.f_code.co_filename != file:
            return None
        last = frame.f_lineno

        def local(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                places.update({frame.f_lineno, (last, frame.f_lineno)})
                last = frame.f_lineno
            elif event == "return":  # how coverage writes down that a function is left
                places.add((last, -frame.f_code.co_firstlineno))
            return local

        return local

    sys.settrace(trace)
    try:
        test()
    except Exception:  # noqa: BLE001 - any kind: it isn't taken
        return []
    finally:
        sys.settrace(None)
    return list(places)


def _place(place: Any) -> int | tuple[int, int]:
    return place if isinstance(place, int) else (place[0], place[1])


def _tests_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test"))


def _tidied(tree: ast.Module, spec: dict[str, Any]) -> ast.Module:
    """Without statements that have nothing to do with the function; the module imported in one line."""
    body: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.body = _about(spec["qualname"].split("."), node.body)
            body.append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            body.append(ast.Import([ast.alias(spec["module"], node.targets[0].id)]))
        else:
            body.append(node)
    return ast.fix_missing_locations(ast.Module(body, []))


def _about(path: list[str], body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements that call the function, or share a variable with one that is kept.

    Left out with the others is what Pynguin asserts of the module's constants, and of a variable that was
    just given its value. Where none of them names the function, it is reached in another way: all stay.
    """
    called = path[-2] if path[-1] == "__init__" else path[-1]
    own = {name for statement in body for name in _names(statement, ast.Store)}
    given = {
        name
        for statement in body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant | ast.UnaryOp)
        for name in _names(statement, ast.Store)
    }
    kept = [statement for statement in body if _calls(statement, called)]
    if not kept:
        return body
    while True:
        shared = {name for statement in kept for name in _names(statement)} & own
        more = [s for s in body if s in kept or _names(s) & (shared - given) or _names(s, ast.Store) & shared]
        if len(more) == len(kept):
            return kept
        kept = more


def _names(statement: ast.stmt, context: type[ast.expr_context] = ast.expr_context) -> set[str]:
    found = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in found if isinstance(node.ctx, context)}


def _calls(statement: ast.stmt, name: str) -> bool:
    return not isinstance(statement, ast.Assert) and any(
        name in {getattr(node, "attr", None), getattr(node, "id", None)} for node in ast.walk(statement)
    )


if __name__ == "__main__":
    main()
