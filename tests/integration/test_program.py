"""Tools of the fleet's own environment over a project: their reports, and each way in which one can break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted_project import write_project

from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import Tool, run_tool
from qefleet.workspace.sandbox import Sandbox

_RUFF = Tool(name="ruff", done=frozenset({0, 1}))
_CHECK = ["check", "--output-format=json", "--no-cache", "--isolated", "."]


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    files = {"pkg/a.py": "import os\n", "ruff.py": "raise SystemExit('the project stands in for the tool')\n"}
    return LocalGround(write_project(tmp_path / "project", files), environment, sandbox)


def _rules(content: bytes) -> list[str]:
    found: list[dict[str, Any]] = json.loads(content)
    return [issue["code"] for issue in found]


async def test_a_report_is_read_and_can_be_kept(ground: LocalGround) -> None:
    report = await run_tool(ground, _RUFF, _CHECK, read=_rules)
    assert report.value == ["F401"]
    assert report.run
    assert (report.run.tool, report.run.exit_code, report.run.version) == ("ruff", 1, _RUFF.version())
    assert report.run.artifact == report.artifacts[0][0]
    assert b"F401" in report.artifacts[0][1]


@pytest.mark.parametrize("way", WAYS)
async def test_a_broken_tool_measures_nothing(ground: LocalGround, way: Way) -> None:
    report = await run_tool(BrokenTools(ground, "ruff", way), _RUFF, _CHECK, read=_rules)
    assert report.value is None
    said = {
        "crashing": "exit code 139",
        "hanging": "limit of time",
        "rubbish": "can't be read",
        "nothing": "left no report",
    }
    assert said[way] in report.reason
    assert report.metric(len, unit="issues", tool=0).kind == "unmeasured"


async def test_a_missing_tool_says_how_to_install_it(ground: LocalGround) -> None:
    tool = Tool(name="looking-glass", extra="visual")
    report = await run_tool(ground, tool, [], read=_rules)
    assert report.value is None
    assert report.run
    assert report.run.problem == report.reason
    assert "pip install 'qefleet[visual]'" in report.reason
