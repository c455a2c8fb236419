"""An agent from a user's own package: installed, listed, and run on everything that is real."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from command_line import PROGRAMS, environment, qe
from planted import make_project
from running_fleet import RunningFleet, running_fleet

from qefleet.contracts.runs import Decision

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom-agent"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built example, as `uv pip install` puts it into an environment."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [PROGRAMS / "uv", "pip", "install", "--quiet", "--no-deps", "--target", folder, EXAMPLE], check=True
    )
    return folder


@pytest.fixture(scope="module")
async def fleet(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningFleet]:
    async with running_fleet(
        tmp_path_factory.mktemp("data"), extra={"PYTHONPATH": str(installed)}
    ) as running:
        yield running


def test_it_is_listed_with_where_it_is_from(installed: Path, tmp_path: Path) -> None:
    """`qe agents` finds it beside the fleet's own."""
    listed = qe("agents", "--json", env=environment(tmp_path, PYTHONPATH=str(installed)), cwd=tmp_path).json

    (found,) = [agent for agent in listed if agent["id"] == "todo-counter"]
    assert found["distribution"] == "todo-agent"
    assert [tool["name"] for tool in found["tools"]] == ["tokenize"]
    assert {measure["name"] for measure in found["measures"]} == {"todo.comments", "todo.files"}
    assert {agent["distribution"] for agent in listed} == {"qefleet", "todo-agent"}


def test_one_that_is_broken_is_told_and_nothing_starts(tmp_path: Path) -> None:
    """Exit code 2, with the distribution and the entry point."""
    folder = tmp_path / "acme_agents-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-agents\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[qefleet.agents]\nx = no_such_module:X\n")

    ended = qe("agents", env=environment(tmp_path, PYTHONPATH=str(tmp_path)), cwd=tmp_path)

    assert ended.code == 2
    assert "agents of acme-agents (entry point x of qefleet.agents)" in " ".join(ended.err.split())


async def test_it_is_run_like_any_other(fleet: RunningFleet, tmp_path: Path) -> None:
    """Its numbers come from its tool, its judgement from a model, its prompt from its package."""
    project = await asyncio.to_thread(make_project, tmp_path / "project", functions=1)
    source = project / "planted" / "shapes.py"
    source.write_text(f"# TODO: shapes with holes\n{source.read_text()}")

    agents = ["todo-counter", {"agent": "quality-gate", "on_failure": "continue"}]
    result = await fleet.execute(
        {"target": str(project), "agents": agents, "thresholds": {"failed_tests_max": None}},
        workflow_id="custom",
    )

    counter, _ = result.steps
    assert counter.measured.value("todo.comments") == 1
    assert counter.measured.tools[0].tool == "todo-agent (tokenize)"
    assert counter.judged == {"comment": "# TODO: shapes with holes", "why": "Users have holes."}
    assert counter.items is not None
    assert counter.items.count == 1
    assert result.decision is Decision.GO
