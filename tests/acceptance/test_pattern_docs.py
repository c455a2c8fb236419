"""The pages about patterns, approvals and control, typed into a shell: real agents, a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import environment
from doc_pages import APPROVALS, CONTROL, OVERVIEW, PATTERNS, Command, Page, approved_at_once
from doc_session import Shell
from drawings import Drawing, history_of
from fleet_process import FleetProcess
from planted import make_project
from temporalio.client import Client

from qefleet.testing.provider import ScriptedProvider

REPLIES = f"{Path(__file__).parent / 'planted.py'}:answer"


@pytest.fixture(scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FleetProcess]:
    async with ScriptedProvider(replies=REPLIES) as provider:
        env = environment(
            tmp_path_factory.mktemp("data"),
            QE_MODEL="openai/gpt-4.1-mini",
            OPENAI_API_KEY="sk-test-canary",
            OPENAI_BASE_URL=f"{provider.url}/v1",
        )
        with FleetProcess(env, tmp_path_factory.mktemp("up")) as process:
            yield process


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"), functions=1)


@pytest.fixture
def shell(fleet: FleetProcess, project: Path, tmp_path: Path) -> Shell:
    return Shell(env_of(fleet), tmp_path, str(project))


def env_of(fleet: FleetProcess) -> dict[str, str]:
    return {**fleet.env, "TEMPORAL_ADDRESS": fleet.address}


async def type_all(shell: Shell, commands: list[Command]) -> None:
    await asyncio.to_thread(shell.play, commands)


async def test_control_page_holds(shell: Shell, tmp_path: Path) -> None:
    """Pause, resume, stop a step and the run, all of it while a test hangs."""
    project = make_project(tmp_path / "project", functions=1)
    (project / "tests" / "test_hang.py").write_text(
        "import time\n\n\ndef test_hang():\n    time.sleep(300)\n"
    )
    watched = CONTROL.section("Watch").commands

    await type_all(replace(shell, target=str(project)), [c for c in CONTROL.commands if c not in watched])


LONG = {"Conditional", "FanOutFanIn", "ParallelExpansion", "Release"}
"""They generate tests, half a minute each: `make soak` runs them."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.soak] if page.workflow_type in LONG else []) for page in PATTERNS],
    ids=lambda page: page.workflow_type,
)
async def test_pattern_does_what_its_page_shows(page: Page, fleet: FleetProcess, shell: Shell) -> None:
    """Its commands say what the page says, and its drawing is of what really happened."""
    await type_all(shell, page.commands)
    (drawn,) = page.blocks("mermaid")
    client = await Client.connect(fleet.address)
    history = await history_of(client, page.commands[0].workflow_id)

    assert Drawing.parse(drawn).differences(history) == []


async def test_overview_does_what_it_shows(shell: Shell) -> None:
    """Bare target, input from a file, a refusal, progress and search."""
    (shell.cwd / "input.json").write_text(OVERVIEW.blocks("json")[0].replace(*shell.replaced))

    await type_all(shell, OVERVIEW.commands)


async def test_approvals_page_holds_over_a_restart_of_everything(fleet: FleetProcess, shell: Shell) -> None:
    """A run waits while all processes are killed and started again, is approved, and goes on.

    Rejection, time-out, second and nameless answers then do what the page says.
    """
    commands = APPROVALS.commands
    waits = next(n for n, command in enumerate(commands) if " list " in command.typed) + 1
    await type_all(shell, commands[:waits])
    await asyncio.to_thread(fleet.kill_everything)
    await asyncio.to_thread(fleet.start)

    await type_all(replace(shell, env=env_of(fleet)), commands[waits:])


async def test_run_is_watched(shell: Shell) -> None:
    """A run that was started by the Temporal CLI is watched by ours."""
    await type_all(shell, CONTROL.section("Watch").commands)


@pytest.mark.soak
@pytest.mark.parametrize("page", PATTERNS, ids=lambda page: page.workflow_type)
async def test_full_input_runs_on_real_agents(page: Page, shell: Shell) -> None:
    """The JSON documents too, whatever they ask a person being approved."""
    for number, value in enumerate(page.inputs):
        (shell.cwd / "input.json").write_text(json.dumps(approved_at_once(value)).replace(*shell.replaced))
        typed = (
            f"temporal workflow execute --type {page.workflow_type} --task-queue qe-fleet"
            f" --workflow-id soak-{page.workflow_type}-{number} --input-file input.json"
        )
        await type_all(shell, [Command(typed, ("Status COMPLETED",))])
