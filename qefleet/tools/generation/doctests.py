"""A proposer without a model: the examples in a function's own docstring, as tests that assert.

`>>> f(x)` followed by a value is a promise by the function's author. Most suites never run them.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import re
import textwrap

from qefleet.contracts.generation import Segment
from qefleet.tools.source_tree import SourceTree, parse_python

_MOST_TESTS = 8
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):")


def propose_from_docstring(segment: Segment, tree: SourceTree) -> str | None:
    """Write a test from the examples of a segment's function, or of its class where it has none.

    Args:
        segment: The function.
        tree: Its source file.

    Returns:
        Source of one test for each group of examples (groups are separated by prose), or None where
        the docstring has no examples with an expected result.
    """
    name = segment.qualname.replace(".", "_").strip("_").lower()
    definition = next((item for item in tree.definitions if item.qualname == segment.qualname), None)
    if definition is None:
        return None
    nodes = [definition.node, *reversed(definition.classes)]
    for node in nodes:
        tests = _tests(ast.get_docstring(node) or "", f"test_{name}_example")
        if tests:
            return "\n\n\n".join(tests) + "\n"
    return None


def _tests(docstring: str, name: str) -> list[str]:
    """One test a group that is followed by prose; each repeats the statements before it."""
    try:
        pieces = doctest.DocTestParser().parse(docstring)
    except ValueError:
        return []
    preparation: list[str] = []
    group: list[str] = []
    tests: list[str] = []
    for piece in [*pieces, "end"]:
        if isinstance(piece, doctest.Example):
            group += _lines(piece)
        elif piece.strip() and group:
            if any(_asserts(line) for line in group):
                suffix = "" if not tests else f"_{len(tests) + 1}"
                arguments = "capsys" if any("capsys" in line for line in group + preparation) else ""
                body = textwrap.indent("\n".join([*preparation, *group]), "    ")
                tests.append(f"def {name}{suffix}({arguments}):\n{body}")
            preparation += [line for line in group if not _asserts(line) and not line.startswith("print(")]
            group = []
    return [test for test in tests if _is_python(test)][:_MOST_TESTS]


def _asserts(line: str) -> bool:
    return line.startswith(("assert ", "with pytest.raises"))


def _lines(example: doctest.Example) -> list[str]:
    """An example as statements; one whose result can't be compared exactly is run only."""
    source, want = example.source.rstrip("\n"), example.want.rstrip("\n")
    if doctest.SKIP in example.options:
        return []
    if _TRACEBACK.match(want):
        kind = want.splitlines()[-1].split(":", 1)[0].strip()
        known = isinstance(getattr(builtins, kind, None), type)
        return [f"with pytest.raises({kind}):\n{textwrap.indent(source, '    ')}"] if known else []
    if not want or not _is_expression(source) or "..." in want or want.startswith("<"):
        # nothing to compare, or an ellipsis, or a representation with an address
        return [source]
    if source.startswith("print("):
        return [source, f"assert capsys.readouterr().out == {want + chr(10)!r}"]
    return [_assertion(source, want)]


def _assertion(source: str, want: str) -> str:
    expression = source if _binds_tightly(source) else f"({source})"
    if want in {"True", "False", "None"}:
        # a comparison is asserted as it stands
        compared = want == "True" and isinstance(ast.parse(source, mode="eval").body, ast.Compare)
        return f"assert {source}" if compared else f"assert {expression} is {want}"
    try:
        ast.literal_eval(want)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return f"assert repr({source}) == {want!r}"
    return f"assert {expression} == {want}"


def _binds_tightly(source: str) -> bool:
    tight = ast.Call | ast.Name | ast.Attribute | ast.Subscript | ast.List | ast.ListComp | ast.Dict | ast.Set
    return isinstance(ast.parse(source, mode="eval").body, tight)


def _is_expression(source: str) -> bool:
    try:
        ast.parse(source, mode="eval")
    except SyntaxError:
        return False
    return "#" not in source


def _is_python(test: str) -> bool:
    try:
        parse_python(test)
    except SyntaxError:
        return False
    return True
