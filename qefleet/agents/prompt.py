"""Prompts: Markdown files, reviewed as prose, named by their digest in each result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template

from qefleet.agents.agent import OWN_PACKAGE


@dataclass(frozen=True)
class Prompt:
    """A prompt file, split at its `## System` and `## Task` headings."""

    name: str
    system: str
    task: Template
    digest: str
    """SHA-256 of the file."""

    def fill(self, **values: str) -> str:
        """The task with its `$placeholders` replaced; a missing value is an error."""
        return self.task.substitute(values)


@cache
def load_prompt(name: str, package: str = OWN_PACKAGE) -> Prompt:
    """Read `prompts/NAME.md` of a package.

    Args:
        name: The file's name without its ending.
        package: The importable package that has the `prompts` folder.

    Raises:
        FileNotFoundError: There is no such prompt.
        ModuleNotFoundError: There is no such package.
        ValueError: It lacks one of its two headings.
    """
    text = resources.files(package).joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")
    _, has_system, rest = text.partition("## System\n")
    system, has_task, task = rest.partition("## Task\n")
    if not (has_system and has_task):
        raise ValueError(f"prompts/{name}.md of {package} needs the headings `## System` and `## Task`")
    return Prompt(name, system.strip(), Template(task.strip()), hashlib.sha256(text.encode()).hexdigest())
