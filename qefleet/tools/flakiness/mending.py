"""Trying a new source of a flaky test: it must check as much as before, and pass as often as it takes."""

from __future__ import annotations

import ast
import asyncio
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qefleet.contracts.flaky import FlakyTest, Kind
from qefleet.tools.changes.selection import read_reached
from qefleet.tools.flakiness.flaky_causes import Laboratory, OutOfRunsError
from qefleet.tools.flakiness.rates import caught, runs_to_catch
from qefleet.tools.generation.proposal import Import, ProposedTest, free_names
from qefleet.tools.generation.static_filter import reaching_problem, weakened
from qefleet.tools.ground import Ground, read_json
from qefleet.tools.running.suite import run_suite
from qefleet.tools.source_tree import Function, SourceTree, parse_python, parse_source

_MOST_RUNS = 60
_NO_LIMIT_S = 3000.0


@dataclass(frozen=True)
class Tried:
    """What became of a proposed mend."""

    kept: bool
    reason: str
    runs: int = 0
    text: str = ""
    """The test's whole file with it, where it was kept."""


async def try_mend(
    ground: Ground,
    test: FlakyTest,
    proposal: str,
    *,
    files: Mapping[str, str],
    at_least: int,
    may_fail: Sequence[str],
    at_once: int,
    timeout_s: float,
) -> Tried:
    """Try a new source of a flaky test: by its syntax tree, by many runs, by what it reaches, in the suite.

    Args:
        ground: The project's workspace.
        test: What is mended.
        proposal: The function as it shall stand.
        files: Test files as earlier mends have left them, by path.
        at_least: Runs in fresh processes.
        may_fail: Tests that fail without it, now and then.
        at_once: Runs side by side.
        timeout_s: For one run.
    """
    text = _text(ground.project, test.path, files)
    mended = replace_function(text, test.node_id, proposal)
    if not mended.kept:
        return mended
    laid = {path: content.encode() for path, content in {**files, test.path: mended.text}.items()}
    needed = _runs_for(test, at_least)
    situations = _situations(test, needed)
    laboratory = Laboratory(
        ground=ground,
        runs=len(situations),
        until=time.monotonic() + _NO_LIMIT_S,
        timeout_s=timeout_s,
        files=laid,
    )
    try:
        for start in range(0, needed, at_once):
            batch = situations[start : start + at_once]
            passed = await asyncio.gather(*(laboratory.passes(t, hash_seed=seed) for t, seed in batch))
            for (tests, seed), fine in zip(batch, passed, strict=True):
                if not fine:
                    after = f"after {', '.join(tests[:-1])}" if len(tests) > 1 else "alone"
                    reason = f"a run of it {after}, with PYTHONHASHSEED={seed}, did not pass"
                    return Tried(kept=False, reason=reason, runs=start + len(batch))
    except OutOfRunsError:
        return Tried(kept=False, reason="there was no time to try it", runs=len(laboratory.experiments))
    if lost := await _reaches_less(ground, test, files, laid):
        return Tried(kept=False, reason=lost, runs=needed)
    suite = await run_suite(ground, coverage=False, files=laid, lean=True, timeout_s=timeout_s)
    if broken := sorted(suite.failing_ids - {*may_fail}) or suite.details.notes:
        return Tried(kept=False, reason=f"with it the suite fails: {broken[0]}", runs=needed)
    rate = test.failed / (test.failed + test.passed)
    told = f"it passed {needed} of {needed} runs; had nothing changed, one of them would have failed with "
    return Tried(
        kept=True,
        reason=f"{told}probability {100 * caught(rate, needed):.0f} %",
        runs=needed,
        text=mended.text,
    )


def replace_function(text: str, node_id: str, proposal: str) -> Tried:
    """A file with another source of one test; refused where it isn't one, or checks less.

    Args:
        text: The file.
        node_id: The test's.
        proposal: The function, with its decorators, at any indentation.
    """
    tree = parse_source(text)
    qualname = ".".join(node_id.partition("[")[0].split("::")[1:])
    found = [item for item in tree.definitions if item.qualname == qualname] if tree else []
    if tree is None or len(found) != 1:
        return Tried(kept=False, reason=f"the function of {node_id} isn't found in its file")
    given = textwrap.dedent(proposal).strip("\n")
    try:
        body = parse_python(given).body
    except SyntaxError as error:
        return Tried(kept=False, reason=f"it isn't Python: {error}")
    definition = found[0]
    if len(body) != 1 or not isinstance(body[0], Function):
        return Tried(
            kept=False, reason="give one function and nothing else: import what it needs inside of it"
        )
    mended = body[0]
    problem = _not_the_same(definition.node, mended) or weakened(definition.node, mended)
    if problem := problem or _reaches_further(tree, definition.node, mended, given):
        return Tried(kept=False, reason=problem)
    return Tried(kept=True, reason="", text=_spliced(tree, definition.start, definition.end, given))


def _not_the_same(before: Function, after: Function) -> str | None:
    if type(before) is not type(after) or before.name != after.name:
        return f"it must be the function {before.name}, as it was"
    if [ast.dump(d) for d in before.decorator_list] != [ast.dump(d) for d in after.decorator_list]:
        return "its decorators must stay as they are"
    if not {a.arg for a in before.args.args} <= {a.arg for a in after.args.args}:
        return "its parameters must stay; it may have further fixtures"
    return None


def _reaches_further(tree: SourceTree, before: Function, after: Function, source: str) -> str | None:
    """Why it must not be kept: it reaches for files, processes or network, and the test didn't.

    What it takes from the file's own imports counts as well as what it imports itself.
    """
    used = free_names(after)
    imports = tuple(
        Import(name, getattr(node, "module", None) or alias.name, alias.name)
        for node in ast.walk(tree.module)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (name := (alias.asname or alias.name).partition(".")[0]) in used
    )
    known = ast.Module([before], [])
    new = tuple(item for item in imports if item.binds not in free_names(before))
    test = ProposedTest(after.name, source, after, new, ())
    return reaching_problem(test, SourceTree("", (), known, ()))


def _spliced(tree: SourceTree, start: int, end: int, given: str) -> str:
    first = tree.lines[start - 1]
    indent = first[: len(first) - len(first.lstrip())]
    lines = textwrap.indent(given, indent).split("\n")
    return "\n".join([*tree.lines[: start - 1], *lines, *tree.lines[end:]])


def _runs_for(test: FlakyTest, at_least: int) -> int:
    """As many as would have caught it with 95 %, had nothing changed."""
    rate = test.failed / (test.failed + test.passed)
    return min(_MOST_RUNS, max(at_least, runs_to_catch(rate) if test.kind is Kind.INTERMITTENT else 0))


def _situations(test: FlakyTest, runs: int) -> list[tuple[list[str], int]]:
    """Where it runs: by turns after its partners and alone, what is known to make it fail first."""
    alone, after = [test.node_id], [*test.partners, test.node_id]
    seeds = [test.hash_seed, *(seed for seed in range(runs) if seed != test.hash_seed)]
    first, second = (alone, after) if test.needs_partners else (after, alone)
    return [(second if number % 2 else first, seeds[number]) for number in range(runs)]


async def _reaches_less(
    ground: Ground, test: FlakyTest, files: Mapping[str, str], laid: Mapping[str, bytes]
) -> str | None:
    """Which lines of the project the test no longer runs, if any."""
    before = {path: content.encode() for path, content in files.items()}
    old, new = [await _reached(ground, test, overlay) for overlay in (before, laid)]
    lost = sorted(old - new)
    return f"it no longer runs {lost[0][0]}:{lost[0][1]}, which the test ran" if lost else None


async def _reached(ground: Ground, test: FlakyTest, files: Mapping[str, bytes]) -> set[tuple[str, int]]:
    order = [*test.partners, test.node_id] if test.needs_partners else [test.node_id]
    paths = sorted({node_id.partition("::")[0] for node_id in order})
    run = await run_suite(
        ground, coverage=True, contexts=True, only=paths, order=order, files=files, lean=True
    )
    reached = read_reached(read_json(run.artifact("coverage.json")))
    if reached is None:
        return set()
    return {
        (path, line)
        for path, lines in reached.lines.items()
        for line, contexts in lines.items()
        if test.node_id in contexts
    }


def _text(project: Path, path: str, files: Mapping[str, str]) -> str:
    return files[path] if path in files else (project / path).read_text("utf-8")
