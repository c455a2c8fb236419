"""What a page of the docs shows: JSON inputs, commands with what they say, and drawings of histories."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

DOCS = Path(__file__).parents[2] / "docs"
TARGET = "pypi:tabulate==0.10.0"
"""What the pages' examples look at; a test puts a target of its own in its place."""

_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """What a reader types, and the lines that the page says it prints; `…` stands for any text."""

    typed: str
    said: tuple[str, ...] = ()

    @property
    def workflow_id(self) -> str:
        """Of the run that it starts."""
        found = re.search(r"--workflow-id (\S+)", self.typed)
        assert found, f"{self.typed} names no run"
        return found[1]

    @property
    def refused(self) -> bool:
        """Whether the page says that it ends with an error."""
        return any(line.startswith("Error") for line in self.said)


@dataclass(frozen=True)
class Page:
    """One page, or a section of one."""

    name: str
    text: str

    @classmethod
    def read(cls, name: str) -> Page:
        """A page by its path below `docs`."""
        return cls(name, (DOCS / name).read_text("utf-8"))

    def section(self, heading: str) -> Page:
        """The part below one heading."""
        found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", self.text, re.DOTALL | re.MULTILINE)
        assert found, f"{self.name} has no section {heading!r}"
        return Page(f"{self.name}: {heading}", found[1])

    @property
    def workflow_type(self) -> str:
        """The type that the page's first command starts."""
        found = re.search(r"--type (\w+)", self.text)
        assert found, f"{self.name} starts nothing"
        return found[1]

    @property
    def inputs(self) -> list[Any]:
        """Its JSON documents, each a whole input of the page's workflow type."""
        return [json.loads(text) for text in self.blocks("json")]

    @property
    def commands(self) -> list[Command]:
        """Everything that is typed, in order."""
        return [command for block in self.blocks("console") for command in _commands(block)]

    def blocks(self, language: str) -> list[str]:
        """Bodies of the code blocks in this language."""
        return [found["body"] for found in _FENCE.finditer(self.text) if found["language"] == language]


OVERVIEW, APPROVALS, CONTROL = map(Page.read, ("patterns/README.md", "approvals.md", "control.md"))
PATTERNS = [
    Page.read(f"patterns/{path.name}")
    for path in sorted((DOCS / "patterns").glob("*.md"))
    if path.name != "README.md"
]


def approved_at_once(value: Any) -> Any:
    """An input, with nobody to ask."""
    match value:
        case dict():
            given = cast("dict[str, Any]", value)
            return {
                name: {"timeout_hours": 0.0001, "on_timeout": "approve"}
                if name == "approval"
                else approved_at_once(inner)
                for name, inner in given.items()
            }
        case list():
            return [approved_at_once(inner) for inner in cast("list[Any]", value)]
        case _:
            return value


def _commands(block: str) -> list[Command]:
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return [Command(typed, tuple(said)) for typed, said in found]
