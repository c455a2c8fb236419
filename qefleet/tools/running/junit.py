"""JUnit XML as our pytest plug-in has it written: counts, node ids, failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from junitparser import Error, Failure, JUnitXml, JUnitXmlError, Properties, Property, Skipped, TestCase

from qefleet.contracts.execution import FailingTest, SuiteCounts

_MESSAGE_CHARS = 2000


@dataclass(frozen=True)
class JUnit:
    """One run's report."""

    counts: SuiteCounts
    failing: tuple[FailingTest, ...]
    """In the order of the file, all of them."""
    collection_errors: int
    """Files that could not be imported; each counts as an error."""
    files: tuple[str, ...] = ()
    """Test files that ran, sorted."""
    unfinished: int = 0
    """Tests that began and never ended, as `pytest.exit` within one leaves it; they are in no count."""


@dataclass(frozen=True)
class Case:
    """One test of a run."""

    node_id: str
    classname: str
    name: str
    duration_s: float
    kind: str
    """`passed`, `skipped`, `failure` or `error`."""
    message: str
    """Why it failed or was skipped."""
    requirements: tuple[str, ...] = ()
    """Those that its `requirement` markers name."""
    scenario: str | None = None
    """Name of the pytest-bdd scenario that it runs."""


def read_cases(content: bytes | None) -> list[Case] | None:
    """Read the tests of a JUnit file, each once, in the order of the file; None as `parse_junit`."""
    suites = _suites(content)
    if suites is None:
        return None
    found: dict[str, Case] = {}
    for case in (case for suite in suites for case in suite):
        if node_id := _node_id(case):
            kind, failing = _outcome(node_id, case)
            known = found.get(node_id)
            if known is None or _RANK[kind] >= _RANK[known.kind]:
                found[node_id] = Case(
                    node_id=node_id,
                    classname=_text(case.classname),  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
                    name=_text(case.name),  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
                    duration_s=float(case.time or 0.0) + (known.duration_s if known else 0.0),  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
                    kind=kind,
                    message=failing.message if failing else _skipped(case),
                    requirements=tuple(_property(case, "qe_requirement")),
                    scenario=next(_property(case, "qe_scenario"), None),
                )
    return list(found.values())


def parse_junit(content: bytes | None) -> JUnit | None:
    """Read a JUnit file.

    Returns:
        None when it is missing or broken: the run has no report, whatever its exit code says.
    """
    suites = _suites(content)
    if suites is None:
        return None
    worst: dict[str, tuple[str, FailingTest | None]] = {}
    collection = unfinished = 0
    for suite in suites:
        for case in suite:
            node_id = _node_id(case)
            if not node_id:
                unfinished += 1
                continue
            kind, failing = _outcome(node_id, case)
            # a test whose call passes and whose tear-down fails has two entries
            if _RANK[kind] >= _RANK[worst.get(node_id, ("passed", None))[0]]:
                worst[node_id] = (kind, failing)
            collection += failing is not None and failing.message.startswith("collection failure")
    kinds = [kind for kind, _ in worst.values()]
    return JUnit(
        counts=SuiteCounts(
            total=len(kinds),
            passed=kinds.count("passed"),
            failed=kinds.count("failure"),
            errors=kinds.count("error"),
            skipped=kinds.count("skipped"),
        ),
        failing=tuple(failing for _, failing in worst.values() if failing),
        collection_errors=collection,
        files=tuple(sorted({node_id.partition("::")[0] for node_id in worst if ".py::" in node_id})),
        unfinished=unfinished,
    )


_RANK = {"passed": 0, "skipped": 1, "failure": 2, "error": 3}


def _suites(content: bytes | None) -> JUnitXml | None:
    try:
        return JUnitXml.fromstring(content) if content else None
    except (SyntaxError, JUnitXmlError, ValueError):
        return None


def _skipped(case: TestCase) -> str:
    return next((_text(result.message) for result in case.result if isinstance(result, Skipped)), "")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _property(case: TestCase, wanted: str) -> Iterator[str]:
    # junitparser's attributes are untyped; each is a string or None
    found = cast("Iterable[Iterable[Property]]", case.iterchildren(Properties))  # pyright: ignore[reportUnknownMemberType]
    for properties in found:
        for item in properties:
            name, value = _text(item.name), _text(item.value)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            if name == wanted:
                yield value


def _node_id(case: TestCase) -> str:
    if node_id := next(_property(case, "qe_node_id"), None):
        return node_id
    parts = (_text(case.classname), _text(case.name))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return "::".join(part for part in parts if part)


def _outcome(node_id: str, case: TestCase) -> tuple[str, FailingTest | None]:
    for result in case.result:
        if isinstance(result, Failure | Error):
            kind = "failure" if isinstance(result, Failure) else "error"
            return kind, FailingTest(node_id=node_id, kind=kind, message=_message(result))
    return ("skipped" if any(isinstance(result, Skipped) for result in case.result) else "passed"), None


def _message(result: Failure | Error) -> str:
    head = _text(result.message).strip()  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    text = _text(result.text).strip()  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    if len(head) + len(text) + 1 <= _MESSAGE_CHARS:
        return f"{head}\n{text}".strip()
    head = head[: _MESSAGE_CHARS // 2]
    return f"{head}\n…{text[-(_MESSAGE_CHARS - len(head) - 2) :]}"


def _text(value: object) -> str:
    return "" if value is None else str(value)
