"""Filter five: does a test kill a mutant that nothing else kills?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qefleet.contracts.generation import Gain
from qefleet.tools.generation.mutants import Mutant, MutantRun, make_mutants, run_mutants
from qefleet.tools.ground import Ground
from qefleet.tools.project import Layout
from qefleet.tools.running.suite import pytest_options
from qefleet.tools.source_tree import SourceTree, read_source

_MOST_SUITE_MUTANTS = 3


@dataclass(frozen=True)
class Kill:
    """What became of the mutants of one test."""

    killed: int = 0
    tried: int = 0
    reason: str = ""
    """Why the test is not good enough; empty when it kills one more."""
    feedback: str = ""


async def kills_one_more(
    ground: Ground,
    layout: Layout,
    *,
    path: str,
    files: Mapping[str, bytes],
    gains: Sequence[Gain],
    kept: Mapping[str, str],
    most: int,
    total_s: float,
    suite_s: float,
    control_s: float,
    base_failing: frozenset[str],
) -> Kill:
    """Run a test on mutants of what only it reaches.

    Lines that nothing reached before can't have been tested before: any kill there is one more. Where
    a test gains branches only, or lines on which nothing can be mutated, the functions around them are
    mutated, and a kill counts when the suite with all kept tests lets the mutant live.

    Args:
        ground: The project's workspace.
        layout: Its layout.
        path: The test's file.
        files: That file's content, by path.
        gains: What the test reaches first.
        kept: Files of the tests that were kept before.
        most: Mutants at most.
        total_s: Time limit for all of them.
        suite_s: How long the base suite takes.
        control_s: Time limit of one run of the test.
        base_failing: Node ids that fail in the base suite, which must not count as kills.
    """
    options = [*pytest_options(layout, test=files[path].decode()), path]
    killed = tried = 0
    problems: list[str] = []
    alive: list[Mutant] = []
    for gain in sorted(gains, key=lambda gain: -len(gain.lines)):
        tree = read_source(ground.project / gain.file)
        if tree is None or tried >= most:
            continue
        lines = tree.statement_lines(set(gain.lines))
        mutants = await make_mutants(tree, gain.file, lines, most=most - tried)
        run = await run_mutants(
            ground, options, tree, mutants, files=files, control_s=control_s, total_s=total_s
        )
        problems += [run.problem] if run.problem else []
        killed, tried = killed + run.killed, tried + run.tried
        alive += [mutant for mutant, fate in zip(mutants, run.fates, strict=False) if fate == "survived"]
    if killed:
        return Kill(killed, tried)
    if tried:
        return Kill(0, tried, f"all {tried} mutants of what it reaches survive", _feedback(alive))
    around = _Around(ground, layout, path, files, kept, suite_s, control_s, total_s, base_failing)
    return await around.kill(gains, most, problems)


@dataclass(frozen=True)
class _Around:
    """Mutants of the functions around a gain, where the suite may kill them as well."""

    ground: Ground
    layout: Layout
    path: str
    files: Mapping[str, bytes]
    kept: Mapping[str, str]
    suite_s: float
    control_s: float
    total_s: float
    base_failing: frozenset[str]

    async def kill(self, gains: Sequence[Gain], most: int, problems: list[str]) -> Kill:
        tried = known = 0
        for gain in gains:
            tree = read_source(self.ground.project / gain.file)
            if tree is None:
                continue
            mutants = await make_mutants(tree, gain.file, _lines_around(tree, gain), most=most)
            run = await self._run(
                [*pytest_options(self.layout, test=self.files[self.path].decode()), self.path],
                tree,
                mutants,
                self.files,
            )
            problems += [run.problem] if run.problem else []
            tried += run.tried
            mine = [m for m, fate in zip(mutants, run.fates, strict=False) if fate in {"killed", "timeout"}]
            known += len(mine)
            for mutant in mine[:_MOST_SUITE_MUTANTS]:
                if await self._suite_misses(tree, mutant):
                    return Kill(1, run.tried)
        if known:
            return Kill(0, tried, "the suite kills the mutants that it kills, too", "Assert something new.")
        if tried:
            return Kill(0, tried, f"all {tried} mutants around what it reaches survive", _feedback([]))
        why = problems[0] if problems else "nothing that it reaches can be mutated"
        return Kill(0, 0, f"not measured: {why}", why)

    async def _suite_misses(self, tree: SourceTree, mutant: Mutant) -> bool:
        """True when the base suite and all kept tests pass on a mutant."""
        deselected = [f"--deselect={node_id}" for node_id in sorted(self.base_failing)]
        files = {path: text.encode() for path, text in self.kept.items()}
        run = await self._run([*pytest_options(self.layout), *deselected], tree, [mutant], files, suite=True)
        return run.fates == ("survived",)

    async def _run(
        self,
        options: Sequence[str],
        tree: SourceTree,
        mutants: Sequence[Mutant],
        files: Mapping[str, bytes],
        *,
        suite: bool = False,
    ) -> MutantRun:
        control_s = 30 + 4 * self.suite_s if suite else self.control_s
        total_s = 2 * control_s if suite else self.total_s
        return await run_mutants(
            self.ground, options, tree, mutants, files=files, control_s=control_s, total_s=total_s
        )


def _lines_around(tree: SourceTree, gain: Gain) -> set[int]:
    """The branches' own lines first; where lines were gained, all of their functions."""
    lines = tree.statement_lines({source for source, _ in gain.branches if source > 0})
    for line in gain.lines:
        definition = tree.enclosing(line)
        if definition is not None:
            lines |= set(range(definition.node.lineno, definition.end + 1))
    return lines


def _feedback(alive: Sequence[Mutant]) -> str:
    where = f" (for example line {alive[0].line})" if alive else ""
    return f"Faults put into the code{where} are not noticed: assert on the exact results, not on their type."
