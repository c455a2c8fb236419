"""A run's tests, and its gate's rules as tests, as one JUnit file that Jenkins' schema accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from qefleet.contracts.gate import GateDecision
from qefleet.contracts.runs import AgentResult
from qefleet.reports.text import for_xml
from qefleet.tools.running.junit import Case, read_cases


def junit(files: Sequence[bytes], *, gate: GateDecision | None, steps: Sequence[AgentResult]) -> bytes:
    """Merge JUnit files, and add a suite `qe-fleet` with the gate's rules and the steps that failed.

    Args:
        files: As pytest wrote them, the latest last: where two have the same test, the later has the say.
        gate: The gate's rules, where a gate was run.
        steps: The run's results.
    """
    tests = {case.node_id: case for content in files for case in read_cases(content) or []}
    suites = {"pytest": list(tests.values()), "qe-fleet": [*_rules(gate), *_failed(steps)]}
    root = Element("testsuites", name="qe-fleet")
    counts = [_suite(root, name, cases) for name, cases in suites.items() if cases]
    for column, name in enumerate(("tests", "failures", "errors")):
        root.set(name, str(sum(row[column] for row in counts)))
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root) + b"\n"


def _rules(gate: GateDecision | None) -> Iterable[Case]:
    if gate is None:
        return
    for rule in gate.rules:
        yield _case("qe-fleet.gate", rule.rule, "passed" if rule.passed else "failure", rule.reason)
    for threshold, why in gate.left_out.items():
        yield _case("qe-fleet.gate", threshold, "skipped", why)


def _failed(steps: Sequence[AgentResult]) -> Iterable[Case]:
    for step in steps:
        if step.status == "failed" and step.error:
            yield _case("qe-fleet.steps", step.step, "error", f"{step.error.type}: {step.error.message}")


def _case(classname: str, name: str, kind: str, message: str) -> Case:
    return Case(f"{classname}::{name}", classname, name, 0.0, kind, message)


def _suite(root: Element, name: str, cases: Sequence[Case]) -> tuple[int, int, int]:
    kinds = [case.kind for case in cases]
    counts = len(cases), kinds.count("failure"), kinds.count("error")
    suite = SubElement(
        root,
        "testsuite",
        name=name,
        tests=str(counts[0]),
        failures=str(counts[1]),
        errors=str(counts[2]),
        skipped=str(kinds.count("skipped")),
        time=f"{sum(case.duration_s for case in cases):.3f}",
    )
    for case in cases:
        element = SubElement(
            suite,
            "testcase",
            classname=for_xml(case.classname),
            name=for_xml(case.name),
            time=f"{case.duration_s:.3f}",
        )
        if case.kind != "passed":
            first, _, rest = for_xml(case.message).partition("\n")
            SubElement(element, case.kind, message=first).text = rest or first
    return counts
