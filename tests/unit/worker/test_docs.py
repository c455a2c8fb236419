from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.cli.checks import KNOWN_VARIABLES

_ROOT = Path(__file__).parents[3]
_PAGES = [
    _ROOT / "README.md",
    *sorted((_ROOT / "docs").glob("*.md")),
    *sorted((_ROOT / "docs/agents").glob("*.md")),
]
_TYPED = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(qe (?:[a-z-]).*)$", re.MULTILINE)
_COMMANDS = sorted(
    {
        command
        for page in _PAGES
        for block in re.findall(
            r"^```(?:console|bash|sh|shell)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
        for command in _TYPED.findall(block)
    }
)


@pytest.mark.parametrize("command", _COMMANDS)
def test_documented_command_has_the_options_that_it_is_shown_with(command: str) -> None:
    """What the pages tell people to type is there to be typed."""
    words = shlex.split(command, comments=True)[1:]
    names = words[:2] if words[0] == "memory" or words[:2] == ["agents", "show"] else words[:1]
    options = {word.partition("=")[0] for word in words if word.startswith("--")}

    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "300"})

    assert shown.exit_code == 0
    assert not [option for option in options if option not in shown.output]


def test_documented_settings_are_known_to_the_doctor() -> None:
    """Each `QE_` variable of the page is one that `qe doctor` knows, and the other way round."""
    page = (_ROOT / "docs" / "running.md").read_text()
    table = page[page.index("## Settings") : page.index("## When something")]
    named = set(re.findall(r"`(QE_[A-Z_]+)`", table)) | {
        f"QE_MODEL{tier}" for tier in re.findall(r"`(_[A-Z]+)`", table)
    }

    assert named == KNOWN_VARIABLES - {"QE_LEASE_S", "QE_UPSTREAM_TIMEOUT_S"}  # for our own tests
