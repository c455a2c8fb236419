"""The page on agents of one's own shows the example as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "custom-agent"
SOURCES = {"python": EXAMPLE / "src/todo_agent/__init__.py", "toml": EXAMPLE / "pyproject.toml"}
SHOWN = re.findall(r"```(python|toml)\n(.*?)```", (ROOT / "docs/custom-agents.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("language", "excerpt"), SHOWN)
def test_excerpts_are_of_the_example(language: str, excerpt: str) -> None:
    """Word for word, so that what is explained is what is tested."""
    assert excerpt in SOURCES[language].read_text()


def test_names_of_the_page_can_be_imported() -> None:
    """`qefleet.agents` is the one place."""
    import qefleet.agents as place  # noqa: PLC0415 - it is what is tested

    assert [name for name in place.__all__ if not hasattr(place, name)] == []
