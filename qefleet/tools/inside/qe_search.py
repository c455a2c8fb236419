"""Search for calls of one function that reach its uncovered lines, and write down what they gave.

Random arguments from a small pool and from the constants in the function, each call traced; the calls that
reach something new are kept, with two more each so that faults in what they return are noticed. What they
gave becomes what the tests expect: it is how the code behaves now, whether or not that is right.
Deterministic: a fixed seed, a fixed number of calls, and a limit on processor time for each.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import itertools
import json
import random
import re
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_CALLS = 1500
_CALL_CPU_S = 0.25
_CALL_S = 3.0
_MOST_TOO_LONG = 5
"""What runs on and on is given up."""
_MOST_PARAMETERS = 4
_MOST_ASSERTS = 10
_LONGEST = 160
_STRINGS = ("''", "'a'", "'Hello World'", "'a-b_c d'", "'1'", "'3.5'", "' x '", "'a=1,b=2'", "'été'")
_NUMBERS = ("0", "1", "-1", "2", "3", "10", "1.5", "100", "-2.5")
_LISTS = (
    "[]",
    "[1]",
    "[1, 2, 3]",
    "['b', 'a']",
    "[[1, 2], [3, 4]]",
    "(1, 2)",
    "[3, 1, 2]",
    "[('a', 1), ('b', 2)]",
)
_DICTS = ("{}", "{'a': 1}", "{'a': {'b': 2}}", "{'x': [1, 2], 'y': None}")
_OTHER = ("None", "True", "False", "b'ab'", "str", "len", "int", "{1, 2}")
_ADDRESS = re.compile(r"0x[0-9a-f]{6}|[0-9]{12}")
"""In a result: where an object lies, or when it was made."""
_BY_TYPE = {
    "str": _STRINGS, "int": _NUMBERS[:6], "float": _NUMBERS, "bool": ("True", "False"), "dict": _DICTS,
    "list": _LISTS, "bytes": ("b''", "b'ab'"),
}  # fmt: skip
_BY_NAME = (
    (
        ("text", "string", "word", "name", "str", "line", "path", "fmt", "sep", "prefix", "suffix", "char"),
        _STRINGS,
    ),
    (("num", "count", "size", "width", "len", "start", "stop", "step", "index", "value", "val"), _NUMBERS),
    (("items", "iterable", "seq", "list", "lst", "rows", "values", "args", "coll", "it", "xs"), _LISTS),
    (("dict", "mapping", "map", "data", "obj", "kwargs"), _DICTS),
    (("func", "fn", "key", "pred", "callback", "f"), ("str", "len", "int", "bool", "None")),
)


def main() -> None:
    """Read the spec, search, and write the proposal."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    sys.path[0] = str(Path.cwd())
    proposals = _Search(spec).proposals()
    Path("/out/proposal.json").write_text(json.dumps({"proposals": proposals}), "utf-8")


class _TooLong(BaseException):
    """A call that doesn't end soon; no `except Exception` swallows it."""


class _Search:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.module: Any = importlib.import_module(spec["module"])
        self.name: str = spec["qualname"]
        self.too_long = 0
        self.wanted: set[int] = set(spec["missing"])
        self.file: str = inspect.getfile(self.module)
        self.random = random.Random(0)  # noqa: S311 - to search, not a secret
        *owners, self.last = self.name.split(".")
        self.owner: Any = self.module
        for part in owners:
            self.owner = getattr(self.owner, part)
        self.function: Any = getattr(self.owner, self.last)
        self.space: dict[str, Any] = {**self.module.__dict__}
        self.constants = self._constants(spec["source"])
        self.bound = bool(owners) and not isinstance(
            inspect.getattr_static(self.owner, self.last), staticmethod | classmethod
        )

    def proposals(self) -> list[str]:
        """Source of up to two tests; none where the function can't be called so."""
        if inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function):
            return []
        parameters = self._required(self.function, skip=self.bound)
        heads = list(self._heads())
        if parameters is None or not heads:
            return []
        seen: set[tuple[int, int]] = set()
        outcomes: set[str] = set()
        returns: list[str] = []
        raised: list[str] = []
        spare = 0
        for _ in range(_CALLS):
            if self.too_long > _MOST_TOO_LONG:
                break
            call = f"{self.random.choice(heads)}({', '.join([self._argument(p) for p in parameters])})"
            arcs, line, outcome = self._try(call)
            fresh = arcs - seen
            useful = bool(fresh) or (spare > 0 and outcome not in outcomes)
            if not line or not useful or (not fresh and not arcs):
                continue
            if self._try(call)[1:] != (line, outcome):
                continue  # it isn't the same twice
            spare = 2 if fresh else spare - 1
            seen |= arcs
            outcomes.add(outcome)
            (raised if line.startswith("with ") else returns).append(line)
        if not {b for _, b in seen} & self.wanted:
            return []
        return [test for test in (self._test("returns", returns), self._test("raises", raised)) if test]

    def _test(self, what: str, lines: list[str]) -> str:
        if not lines:
            return ""
        root = self.name.partition(".")[0]
        name = self.name.replace(".", "_").strip("_").lower()
        needs = [f"from {self.module.__name__} import {root}"]
        needs += ["import pytest"] if what == "raises" else []
        for exception in sorted(
            {line.split("(", 1)[1].split(")", 1)[0] for line in lines if what == "raises"}
        ):
            if not hasattr(builtins, exception):
                needs.append(f"from {self.module.__name__} import {exception}")
        body = textwrap.indent("\n".join(lines[:_MOST_ASSERTS]), "    ")
        return "\n".join(needs) + f"\n\n\ndef test_{name}_{what}():\n{body}\n"

    def _heads(self) -> Iterator[str]:
        """What a call begins with: the function, or a few objects that could be made."""
        if not self.bound:
            yield self.name
            return
        required = self._required(self.owner)
        if required is None:
            return
        made = 0
        path = self.name.rpartition(".")[0]
        for _ in range(60):
            head = f"{path}({', '.join([self._argument(p) for p in required])})"
            if made < 3 and self._evaluate(head) is not None:  # noqa: PLR2004 - a few
                made += 1
                yield f"{head}.{self.last}"

    def _required(self, target: Any, *, skip: bool = False) -> list[inspect.Parameter] | None:
        """Parameters that a call gives: those that have to be given, and at random some of the others."""
        try:
            found = list(inspect.signature(target).parameters.values())[int(skip) :]
        except (TypeError, ValueError):
            return None
        found = [p for p in found if p.kind is not p.VAR_KEYWORD]
        needed = [p for p in found if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
        if len(needed) > _MOST_PARAMETERS:
            return None
        return needed + [p for p in found if p not in needed and p.kind is not p.VAR_POSITIONAL][:2]

    def _argument(self, parameter: inspect.Parameter) -> str:
        if parameter.default is not parameter.empty and self.random.random() < 0.4:  # noqa: PLR2004
            value = repr(parameter.default)
            pool = (value,) if self._evaluate(value) == parameter.default else ("None",)
        else:
            pool = self._pool(parameter)
        value = self.random.choice(pool)
        named = parameter.kind is parameter.KEYWORD_ONLY or parameter.default is not parameter.empty
        return f"{parameter.name}={value}" if named else value

    def _pool(self, parameter: inspect.Parameter) -> tuple[str, ...]:
        annotation = getattr(parameter.annotation, "__name__", str(parameter.annotation)).lower()
        name = parameter.name.lower()
        chance = self.random.random()
        if self.constants and chance < 0.3:  # noqa: PLR2004 - a third each: constants, what fits, anything
            return self.constants
        if chance < 0.85:  # noqa: PLR2004
            for kind, pool in _BY_TYPE.items():
                if parameter.annotation is not parameter.empty and kind in annotation:
                    return pool
            for hints, pool in _BY_NAME:
                if any(name == hint or (len(hint) > 2 and hint in name) for hint in hints):  # noqa: PLR2004
                    return pool
        return _STRINGS + _NUMBERS + _LISTS + _DICTS + _OTHER

    def _constants(self, source: str) -> tuple[str, ...]:
        try:
            tree = ast.parse(textwrap.dedent(source))
        except SyntaxError:
            return ()
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found = {
            repr(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and id(node) not in docs
            and isinstance(node.value, str | int | float | bytes)
            and len(repr(node.value)) <= 40  # noqa: PLR2004 - what is longer is a message
        }
        return tuple(sorted(found))

    def _evaluate(self, expression: str) -> Any:
        try:
            with _Limit():
                return eval(expression, dict(self.space))  # noqa: S307 - our own text, in the sandbox
        except (Exception, SystemExit, _TooLong):  # noqa: BLE001 - any kind
            return None

    def _try(self, call: str) -> tuple[set[tuple[int, int]], str, str]:
        """Arcs that a call runs in the file, the line of a test for it (or nothing), and its outcome."""
        arcs: set[tuple[int, int]] = set()

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename != self.file:
                return None
            last = frame.f_lineno

            def local(frame: FrameType, event: str, _: Any) -> Any:
                nonlocal last
                if event == "line":
                    arcs.add((last, frame.f_lineno))
                    last = frame.f_lineno
                return local

            return local if event == "call" else None

        listed = False
        try:
            with _Limit():
                sys.settrace(trace)
                try:
                    result: Any = eval(call, dict(self.space))  # noqa: S307 - our own text, in the sandbox
                    listed = hasattr(result, "__next__")
                    if listed:
                        given: list[Any] = list(itertools.islice(result, 50))
                        result = given
                finally:
                    sys.settrace(None)
        except (_TooLong, SystemExit, RecursionError, MemoryError) as error:
            self.too_long += isinstance(error, _TooLong)
            return set(), "", ""
        except Exception as error:  # noqa: BLE001 - any kind
            name = type(error).__name__
            known = hasattr(builtins, name) or hasattr(self.module, name)
            shown = f"list({call})" if listed else call
            line = f"with pytest.raises({name}):\n    {shown}" if known and self._raises(error) else ""
            return arcs, line, name
        text = repr(result)
        if len(text) > _LONGEST or len(call) > _LONGEST or _ADDRESS.search(text):
            return arcs, "", ""
        shown = f"list({call})" if listed else call
        return arcs, self._assertion(shown, result, text), text

    def _raises(self, error: BaseException) -> bool:
        """Whether the code itself refuses: it fails at a `raise` of its own."""
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code.co_filename != self.file:
            return False
        lines = Path(self.file).read_text("utf-8").split("\n")
        return lines[trace.tb_lineno - 1].lstrip().startswith("raise")

    @staticmethod
    def _assertion(call: str, result: Any, text: str) -> str:
        if result is None or result is True or result is False:
            return f"assert {call} is {text}"
        try:
            same = type(ast.literal_eval(text)) is type(result) and ast.literal_eval(text) == result
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            same = False
        if same:
            return f"assert {call} == {text}"
        return "" if "\n" in text else f"assert repr({call}) == {text!r}"


class _Limit:
    """Ends what takes too long."""

    def __enter__(self) -> None:
        def stop(*_: object) -> None:
            raise _TooLong

        signal.signal(signal.SIGVTALRM, stop)
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, _CALL_CPU_S)
        signal.setitimer(signal.ITIMER_REAL, _CALL_S)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
