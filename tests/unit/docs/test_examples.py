"""What the docs show works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qefleet.contracts.patterns import PipelineInput

ROOT = Path(__file__).parents[3]


def json_examples() -> list[str]:
    return re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "pipeline.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", json_examples())
def test_input_examples_are_valid(example: str) -> None:
    """Each JSON example of the Pipeline's page is an input that it takes."""
    value = json.loads(example)

    assert PipelineInput.model_validate(value).target


def test_links_lead_somewhere() -> None:
    """Each relative link and picture in README and docs is there."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    ]

    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []
