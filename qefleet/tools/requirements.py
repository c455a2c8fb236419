"""Requirements from a project's feature files, and the matrix of the tests that trace to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from gherkin.errors import CompositeParserException, ParserError
from gherkin.parser import Parser

from qefleet.contracts.requirements import Requirement, Trace, TracedTest
from qefleet.tools.running.junit import Case

_ID = re.compile(r"^@([A-Z][A-Z0-9_]*-\d+)$")
_MOST_BYTES = 1 << 20
_MOST_TEXT = 2000


def read_requirements(project: Path) -> tuple[list[Requirement], list[str]]:
    """All scenarios of a project's `*.feature` files, those with one id together.

    A scenario's id is its own tag such as `@REQ-12`; without one, its file and name.

    Args:
        project: The project's folder; nothing in it is executed.

    Returns:
        The requirements in the order of their files, and the files that can't be read, with the reason.
    """
    found: dict[str, Requirement] = {}
    unreadable: list[str] = []
    for file in sorted(project.rglob("*.feature")):
        path = file.relative_to(project).as_posix()
        if file.is_symlink() or not file.is_file():
            continue
        if file.stat().st_size > _MOST_BYTES:
            unreadable.append(f"{path}: larger than {_MOST_BYTES} bytes")
            continue
        try:
            document = cast("dict[str, Any]", Parser().parse(file.read_text("utf-8")))
        except (CompositeParserException, ParserError, UnicodeDecodeError) as error:
            unreadable.append(f"{path}: {str(error).splitlines()[-1][:200]}")
            continue
        for requirement in _scenarios(document.get("feature") or {}, path):
            known = found.get(requirement.id)
            found[requirement.id] = _merged(known, requirement) if known else requirement
    return list(found.values()), unreadable


def check_scenario(text: str) -> None:
    """Check that a text is scenarios in Gherkin, each with steps.

    Raises:
        ValueError: It isn't; the message says where.
    """
    try:
        document = cast("dict[str, Any]", Parser().parse(f"Feature: proposed\n{text}\n"))
    except (CompositeParserException, ParserError) as error:
        raise ValueError(f"not Gherkin: {str(error).splitlines()[-1][:200]}") from error
    found = [*_scenarios(document.get("feature") or {}, "proposed")]
    if not found or not all("\n" in requirement.text for requirement in found):
        raise ValueError(
            "write `Scenario: name`, then its steps, each on a line that begins with Given, When or Then"
        )


def trace(requirements: Sequence[Requirement], cases: Sequence[Case]) -> tuple[list[Trace], list[str]]:
    """Which tests are about which requirement: by `@pytest.mark.requirement("ID")`, or by scenario.

    Returns:
        A row for each requirement, and the ids that tests name and no requirement has.
    """
    traces = [
        Trace(
            requirement=requirement,
            tests=[
                TracedTest.model_validate({"node_id": case.node_id, "outcome": case.kind})
                for case in cases
                if requirement.id in case.requirements or case.scenario in requirement.scenarios
            ],
        )
        for requirement in requirements
    ]
    known = {requirement.id for requirement in requirements}
    named = {name for case in cases for name in case.requirements}
    return traces, sorted(named - known)


def _scenarios(feature: dict[str, Any], path: str) -> Iterator[Requirement]:
    children = cast("list[dict[str, Any]]", feature.get("children", []))
    for child in children:
        if "rule" in child:
            yield from _scenarios({**child["rule"], "name": feature["name"]}, path)
        elif "scenario" in child:
            yield _requirement(child["scenario"], feature["name"], path)


def _requirement(scenario: dict[str, Any], feature: str, path: str) -> Requirement:
    name = str(scenario["name"])
    tags = [match[1] for tag in scenario["tags"] if (match := _ID.match(tag["name"]))]
    lines = [f"{step['keyword']}{step['text']}" for step in scenario["steps"]]
    return Requirement(
        id=(tags[0] if tags else f"{path}:{name}")[:512],
        title=name,
        path=path,
        line=scenario["location"]["line"],
        text="\n".join([f"{feature}: {name}", *lines])[:_MOST_TEXT],
        scenarios=[name],
    )


def _merged(first: Requirement, other: Requirement) -> Requirement:
    return first.model_copy(
        update={
            "text": f"{first.text}\n\n{other.text}"[:_MOST_TEXT],
            "scenarios": [*first.scenarios, *other.scenarios],
        }
    )
