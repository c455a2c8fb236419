"""Incidents: exceptions that logs tell of, found in the project's source, and tests that show them again."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from qefleet.contracts.generation import Filter
from qefleet.contracts.production import Incident
from qefleet.tools.generation.keep import candidate_path
from qefleet.tools.generation.trial import try_test
from qefleet.tools.ground import Ground
from qefleet.tools.production.logs import Traceback
from qefleet.tools.project import Layout, read_layout
from qefleet.tools.source_tree import Definition, SourceTree, parse_python, read_source
from qefleet.workspace.archive import safe_path

RUNS = 3
"""Fresh processes in all of which a test has to show the incident."""
_CPU_S = 20
_WALL_S = 45.0


def find_incidents(project: Path, tracebacks: Sequence[Traceback]) -> list[Incident]:
    """Tracebacks whose innermost frame within the project is a function that it still has.

    Args:
        project: The project's folder; nothing in it is executed.
        tracebacks: As logs have them, with paths of whatever machine wrote them.
    """
    layout = read_layout(project)
    found: dict[str, Incident] = {}
    for traceback in tracebacks:
        incident = _incident(project, layout, traceback)
        if incident is not None:
            known = found.get(incident.id)
            events = incident.events + (known.events if known else 0)
            found[incident.id] = (known or incident).model_copy(update={"events": events})
    return sorted(found.values(), key=lambda it: (-it.events, it.path, it.line, it.id))


def source_of(project: Path, incident: Incident) -> str:
    """The function that an incident came from, as the project has it now."""
    tree = read_source(project / incident.path)
    definition = _definition(tree, incident.line, incident.function.rpartition(".")[2]) if tree else None
    return tree.slice(definition.start, definition.end) if tree and definition else ""


async def reproduce(ground: Ground, incident: Incident, test: str) -> tuple[bool, str, int]:
    """Run a test that should show an incident, and tell whether it does.

    Args:
        ground: The project's workspace.
        incident: What it should show.
        test: Source of a module with one test.

    Returns:
        Whether it failed in each run as the incident did; why that counts or doesn't; how often it was run.
    """
    if problem := _problem(test):
        return False, problem, 0
    layout = read_layout(ground.project)
    path = candidate_path(layout, ground.project)
    for run in range(1, RUNS + 1):
        trial = await try_test(
            ground,
            layout,
            path,
            {path: test.encode()},
            [incident.path],
            runs=1,
            cpu_s=_CPU_S,
            wall_s=_WALL_S,
        )
        if trial.failed_filter is None:
            return False, "it passes, so it doesn't show the incident", run
        if trial.failed_filter is not Filter.RUNS or not _is_the_incident(trial.feedback, incident):
            return False, f"it fails for another reason: {trial.reason}\n{trial.feedback}"[:1500], run
    return (
        True,
        f"it fails by {incident.exception} out of {incident.function}, in {RUNS} runs of {RUNS}",
        RUNS,
    )


def _incident(project: Path, layout: Layout, traceback: Traceback) -> Incident | None:
    for file, line, name in reversed(traceback.frames):
        path = _in_project(project, file)
        module = layout.module_of(path) if path else None
        if path is None or module is None or layout.is_test_file(path):
            continue
        tree = read_source(project / path)
        definition = _definition(tree, line, name) if tree else None
        if definition is None:
            return None
        identity = f"{traceback.exception}\0{path}\0{definition.qualname}"
        return Incident(
            id="incident-" + hashlib.sha256(identity.encode()).hexdigest()[:8],
            exception=traceback.exception,
            message=traceback.message,
            path=path,
            line=line,
            function=definition.qualname,
            module=module,
            events=traceback.events,
            log=traceback.path,
            log_line=traceback.line,
        )
    return None


def _in_project(project: Path, file: str) -> str | None:
    """The project's file that a path of another machine ends in, by as many folders as there are."""
    parts = PurePosixPath(file.replace("\\", "/")).parts
    if "site-packages" in parts or not file.endswith(".py"):
        return None
    for first in range(len(parts)):
        path = "/".join(parts[first:])
        if safe_path(path) and (project / path).is_file() and not (project / path).is_symlink():
            return path
    return None


def _definition(tree: SourceTree, line: int, name: str) -> Definition | None:
    """The function of this name nearest to a line: code moves."""
    named = [it for it in tree.definitions if it.node.name == name]
    return min(named, key=lambda it: (not it.start <= line <= it.end, abs(it.start - line)), default=None)


def _problem(test: str) -> str:
    try:
        module = parse_python(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"it is no Python: {error}"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tests = [it for it in module.body if isinstance(it, functions) and it.name.startswith("test")]
    return "" if len(tests) == 1 else f"it has {len(tests)} functions whose names begin with test: write one"


def _is_the_incident(failure: str, incident: Incident) -> bool:
    """Whether pytest's short traceback ends in the incident's function, with its exception."""
    raised = re.search(rf"^E\s+(?:\w+\.)*{re.escape(incident.exception)}\b", failure, re.MULTILINE)
    name = incident.function.rpartition(".")[2]
    passed = re.search(rf"^{re.escape(incident.path)}:\d+: in {re.escape(name)}$", failure, re.MULTILINE)
    return raised is not None and passed is not None
