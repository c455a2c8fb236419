"""Mutants of single functions by mutmut's operators, and runs of tests against them.

Source is mutated on the worker (it is only text here); mutated code runs in the sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import libcst
from libcst.metadata import CodeRange, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor, deep_replace
from mutmut.mutation.mutators import OPERATORS_TYPE, mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from qefleet.tools.ground import Ground, read_json, run_program
from qefleet.tools.source_tree import Definition, SourceTree, parse_source
from qefleet.workspace.sandbox import Limits

Fate = Literal["killed", "survived", "timeout", "invalid", "unreached"]

_MOST_FUNCTION_LINES = 400


@dataclass(frozen=True)
class Mutant:
    """One changed version of a source file."""

    file: str
    line: int
    """First line of what was changed."""
    text: str
    """The whole file with the change."""


@dataclass(frozen=True)
class MutantRun:
    """What tests made of mutants."""

    fates: tuple[Fate, ...]
    """As the mutants were given; a time-out counts as noticed, `invalid` and `unreached` as nothing."""
    problem: str = ""
    """Why nothing was measured; then `fates` is empty."""

    @property
    def killed(self) -> int:
        """Mutants that the tests noticed."""
        return sum(fate in {"killed", "timeout"} for fate in self.fates)

    @property
    def tried(self) -> int:
        """Mutants on which the tests could show what they are worth."""
        return sum(fate in {"killed", "timeout", "survived"} for fate in self.fates)


async def make_mutants(tree: SourceTree, file: str, lines: Iterable[int], *, most: int = 12) -> list[Mutant]:
    """Mutate what stands on these lines, in a thread: parsing costs tenths of a second.

    Args:
        tree: The file's source.
        file: Its path relative to the project.
        lines: Lines of functions; what lies outside of functions isn't mutated.
        most: Upper bound. The choice depends on the source only: one a line first, then more.
    """
    return await asyncio.to_thread(_make, tree, file, frozenset(lines), most)


async def run_mutants(
    ground: Ground,
    pytest_args: Sequence[str],
    original: SourceTree,
    mutants: Sequence[Mutant],
    *,
    files: Mapping[str, bytes],
    control_s: float = 30.0,
    total_s: float = 60.0,
) -> MutantRun:
    """Run tests on each mutant of one file, all in one sandboxed process that forks.

    Args:
        ground: The project's workspace.
        pytest_args: Which tests, and how.
        original: The unmutated file: the tests must pass on it by the same way, or nothing is measured.
        mutants: Mutants of that one file.
        files: Test files to lay over the project.
        control_s: Time limit of the run on the original.
        total_s: Time limit for all; mutants beyond it stay `unreached`.
    """
    if not mutants:
        return MutantRun(())
    file = mutants[0].file
    spec = {
        "pytest": [*pytest_args, "-x", "-q", "--no-header", "--tb=no"],
        "control": {"file": file, "text": original.text},
        "mutants": [{"file": mutant.file, "text": mutant.text} for mutant in mutants],
        "control_s": control_s,
        "total_s": total_s,
    }
    outcome = await run_program(
        ground,
        "qe_mutants",
        spec,
        files=files,
        collect=["mutants.json"],
        limits=replace(Limits(), wall_s=total_s + control_s + 5),
    )
    answer: Any = read_json(outcome.outputs.get("mutants.json"))
    if answer is None:
        return MutantRun((), f"the run on mutants left no result: {outcome.finished.text[-300:].strip()}")
    if answer["control"] != "survived":
        return MutantRun((), _PROBLEMS.get(answer["control"], "the tests fail on the unmutated source"))
    fates = cast("list[Fate]", answer["results"])
    return MutantRun(tuple(fates))


_PROBLEMS = {
    "not loaded": "the tests did not import the mutated file from the project's source",
    "timeout": "the tests did not end in time on the unmutated source",
}


def _make(tree: SourceTree, file: str, lines: frozenset[int], most: int) -> list[Mutant]:
    found: list[Mutant] = []
    for definition in tree.definitions:
        wanted = {line for line in lines if definition.node.lineno <= line <= definition.end}
        if wanted and definition.end - definition.start < _MOST_FUNCTION_LINES:
            found += _mutate(tree, definition, file, wanted)
    by_line: dict[int, list[Mutant]] = {}
    for mutant in found:
        by_line.setdefault(mutant.line, []).append(mutant)
    chosen: list[Mutant] = []
    while len(chosen) < most and any(by_line.values()):
        for line in sorted(by_line):
            if by_line[line] and len(chosen) < most:
                chosen.append(by_line[line].pop(0))
    return chosen


def _mutate(tree: SourceTree, definition: Definition, file: str, wanted: set[int]) -> list[Mutant]:
    """Mutants of one function, parsed by itself: a long file costs seconds, a function milliseconds.

    Decorators are left out, since mutmut leaves decorated functions alone (its own way of switching
    mutants can't cope with them; ours replaces the text).
    """
    first = definition.node.lineno
    heads = _heads(tree, definition)
    shift = first - len(heads) - 1
    text = "\n".join([*heads, tree.slice(first, definition.end)]) + "\n"
    try:
        wrapper = libcst.MetadataWrapper(libcst.parse_module(text))
        visitor, module = _visit(wrapper, mutation_operators, {line - shift for line in wanted})
        if not visitor.mutations:
            visitor, module = _visit(wrapper, _PLAIN_OPERATORS, {line - shift for line in wanted})
    except (libcst.ParserSyntaxError, RecursionError):
        return []
    positions: Mapping[libcst.CSTNode, CodeRange] = wrapper.resolve(PositionProvider)
    mutants: list[Mutant] = []
    for mutation in visitor.mutations:
        position = positions.get(mutation.original_node)
        changed = deep_replace(module, mutation.original_node, mutation.mutated_node)
        if position is None or not isinstance(changed, libcst.Module):
            continue
        body = changed.code.split("\n")[len(heads) : -1]
        whole = [*tree.lines[: first - 1], *body, *tree.lines[definition.end :]]
        mutated = "\n".join(whole)
        if mutated != tree.text and parse_source(mutated) is not None:
            mutants.append(Mutant(file, position.start.line + shift, mutated))
    return mutants


def _visit(
    wrapper: libcst.MetadataWrapper, operators: OPERATORS_TYPE, lines: set[int]
) -> tuple[MutationVisitor, libcst.Module]:
    # the visitor itself, not `create_mutations`, which reads mutmut's global configuration
    visitor = MutationVisitor(operators, IgnoredCode(set(), set(), set()), lines)
    return visitor, wrapper.visit(visitor)


def _negate(node: libcst.If | libcst.While) -> Iterable[libcst.CSTNode]:
    inner = node.test.with_changes(lpar=[libcst.LeftParen()], rpar=[libcst.RightParen()])
    yield node.with_changes(test=libcst.UnaryOperation(libcst.Not(), inner))


def _return_nothing(node: libcst.Return) -> Iterable[libcst.CSTNode]:
    if node.value is not None and not (isinstance(node.value, libcst.Name) and node.value.value == "None"):
        space = libcst.SimpleWhitespace(" ")
        yield node.with_changes(value=libcst.Name("None"), whitespace_after_return=space)


_PLAIN_OPERATORS: OPERATORS_TYPE = [
    (libcst.If, _negate),
    (libcst.While, _negate),
    (libcst.Return, _return_nothing),
]
"""For lines such as `if x:` and `return x`, on which mutmut's own operators find nothing to change."""


def _heads(tree: SourceTree, definition: Definition) -> list[str]:
    """Lines that make the function's own indentation valid: its classes, and an `if` around them."""
    lines = [tree.lines[node.lineno - 1] for node in (*definition.classes, definition.node)]
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    heads = [f"{indent}class {node.name}:" for indent, node in zip(indents, definition.classes, strict=False)]
    return ["if True:", *heads] if indents[0] else heads
