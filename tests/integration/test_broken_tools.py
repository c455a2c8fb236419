"""Every tool of every agent, gone: its agent says why nothing was measured, and the gate is closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_context import measure_alone
from planted_project import write_project

from qefleet.agents.agent import Agent
from qefleet.agents.catalogue import built_in
from qefleet.agents.quality_gate import QUALITY_GATE
from qefleet.contracts.changes import Changes
from qefleet.contracts.measured import Measured
from qefleet.contracts.runs import Decision
from qefleet.testing.ground import LocalGround
from qefleet.tools.generation.pynguin import PYNGUIN
from qefleet.tools.program import Tool
from qefleet.workspace.sandbox import Sandbox

_SERVER = """import http.server, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
_OPENAPI = """openapi: 3.0.3
info: {title: x, version: "1"}
paths:
  /index.html:
    get: {responses: {"200": {description: ok}}}
"""
_FILES = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "planted"\nversion = "1.0"\ndependencies = ["iniconfig==2.0.0"]\n'
    '[tool.setuptools]\npackages = ["planted"]\n',
    "planted/__init__.py": '"""Planted."""\n',
    "planted/mod.py": '"""A module."""\n\n\ndef one() -> int:\n    """One."""\n    return 1\n',
    "tests/test_mod.py": "from planted.mod import one\n\n\ndef test_one():\n    assert one() == 1\n",
    "requirements.txt": "iniconfig==2.0.0\n",
    "server.py": _SERVER,
    "openapi.yaml": _OPENAPI,
    "index.html": "<!doctype html><html lang='en'><title>x</title><main><h1>x</h1></main></html>\n",
    "schema.json": '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}\n',
    "schema.sql": "CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n",
    "people.csv": "name,age\n" + "".join(f"p{n},{n % 5}\n" for n in range(20)),
    "logs/app.log": "".join(f"2026-01-01T00:{n:02}:00 INFO request {n}\n" for n in range(60)),
    "reports/junit/1.xml": "<testsuites><testsuite><testcase name='b' time='0.1'/></testsuite></testsuites>",
}
_COMMAND = ["{python}", "server.py", "18099"]
_OPTIONS: dict[str, dict[str, Any]] = {
    "api-contract-validator": {"command": _COMMAND},
    "performance-tester": {"command": _COMMAND, "port": 18099, "duration_s": 2},
    "visual-tester": {"pages": ["index.html"]},
    "anonymizer": {"anonymize": "people.csv"},
}
"""What makes an agent use a tool, where the default doesn't; by the agent or the tool."""


def _cases() -> Iterator[Any]:
    for agent in built_in():
        for tool in agent.tools:
            # Pynguin proposes and measures nothing: `test_pynguin_policy.py` has what is told without it.
            if isinstance(tool, Tool) and tool is not PYNGUIN:
                yield pytest.param(agent, tool, id=f"{agent.id}-{tool.name}".replace(" ", "-"))


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


@pytest.mark.parametrize(("agent", "tool"), list(_cases()))
async def test_an_agent_without_a_tool_closes_the_gate(
    agent: Agent, tool: Tool, ground: LocalGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing raises, the reason names the tool and how to install it, and no GO comes of it."""
    installed = Tool.version

    def version(this: Tool) -> str | None:
        return None if this.name == tool.name else installed(this)

    monkeypatch.setattr(Tool, "version", version)

    found = await measure_alone(
        agent,
        ground,
        base=ground,
        changes=Changes({"planted/mod.py": [(1, 6)]}),
        options=_OPTIONS.get(tool.name, _OPTIONS.get(agent.id, {})),
    )

    result = found.result(agent)
    problems = [run.problem for run in result.measured.tools if run.problem]
    assert any(tool.name in problem and "isn't installed" in problem for problem in problems), problems
    green = Measured(value=0, unit="tests", tool=0)
    tests = result.model_copy(
        update={
            "measured": result.measured.model_copy(
                update={"metrics": {**result.measured.metrics, "tests.failed": green, "tests.errors": green}}
            )
        }
    )
    gate = await measure_alone(QUALITY_GATE, ground, earlier=[tests])
    assert gate.finding.decision is Decision.NO_GO
    assert "tools.failed" in gate.finding.headline
