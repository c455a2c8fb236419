"""Prompts: Markdown files, reviewed as prose, named by their digest in each result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template


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
def load_prompt(name: str) -> Prompt:
    """Read `prompts/NAME.md`.

    Raises:
        FileNotFoundError: There is no such prompt.
    """
    text = resources.files("qefleet.agents").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("## System\n")
    system, _, task = rest.partition("## Task\n")
    return Prompt(name, system.strip(), Template(task.strip()), hashlib.sha256(text.encode()).hexdigest())
