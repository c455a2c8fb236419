"""The schedules of docs/schedules.md, typed as they stand there, against a real Temporal server."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeFleet
from temporalio.client import Client, WorkflowExecution
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from qefleet.contracts import attributes
from qefleet.contracts.runs import TASK_QUEUE
from tests.acceptance.command_line import environment, qe
from worker.registry import WORKFLOWS

_PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"
_COMMANDS = [
    shlex.split(command.replace("\\\n", " "))
    for block in re.findall(r"```console\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    for command in re.findall(r"^\$ temporal ((?:.*\\\n)*.*)$", block, re.MULTILINE)
]
_CREATED = [command for command in _COMMANDS if command[:2] == ["schedule", "create"]]
_REST = [command for command in _COMMANDS if command[:2] != ["schedule", "create"]]


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.fixture
async def fleet(temporal: WorkflowEnvironment) -> AsyncIterator[FakeFleet]:
    """A worker of the fleet's own task queue, which schedules start runs on."""
    fleet = FakeFleet(parts=1)
    async with Worker(
        temporal.client, task_queue=TASK_QUEUE, workflows=WORKFLOWS, activities=fleet.activities
    ):
        yield fleet


async def typed(temporal: WorkflowEnvironment, folder: Path, command: list[str]) -> str:
    """Run a `temporal` command as a person would; what it prints."""
    env = environment(folder, TEMPORAL_ADDRESS=temporal.client.service_client.config.target_host)
    ended = await asyncio.to_thread(qe, *command, env=env, cwd=folder, program=("temporal",))
    assert ended.code == 0, ended.err
    return ended.out


async def scheduled(client: Client, schedule: str) -> WorkflowExecution:
    """The run that a schedule has started, once the server lists it."""
    while True:
        async for run in client.list_workflows(f'TemporalScheduledById = "{schedule}"'):
            return run
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("command", _CREATED, ids=lambda command: _option(command, "--schedule-id"))
async def test_schedule_starts_what_it_says(
    temporal: WorkflowEnvironment, fleet: FakeFleet, tmp_path: Path, command: list[str]
) -> None:
    """Triggered, it starts a run of the right type and input, with the fleet's search attributes."""
    schedule = f"{_option(command, '--schedule-id')}-only"
    await typed(
        temporal, tmp_path, [word if word != schedule.removesuffix("-only") else schedule for word in command]
    )
    await typed(temporal, tmp_path, ["schedule", "trigger", "--schedule-id", schedule])
    run = await asyncio.wait_for(scheduled(temporal.client, schedule), 30)
    handle = temporal.client.get_workflow_handle(run.id, run_id=run.run_id)
    await handle.result()
    described = await handle.describe()
    [began] = [event async for event in handle.fetch_history_events(page_size=1)][:1]
    await typed(temporal, tmp_path, ["schedule", "delete", "--schedule-id", schedule])

    given: dict[str, Any] = json.loads(_option(command, "--input"))
    sent = began.workflow_execution_started_event_attributes.input.payloads[0].data
    assert (described.workflow_type, json.loads(sent)) == (_option(command, "--type"), given)
    assert run.id.startswith(schedule)
    found = described.typed_search_attributes
    assert [found.get(key) for key in (attributes.TARGET, attributes.PHASE)] == [given["target"], "done"]
    assert fleet.calls["open_run"] == 1


async def test_other_commands_of_the_page_work(
    temporal: WorkflowEnvironment, fleet: FakeFleet, tmp_path: Path
) -> None:
    """In the order in which they stand there."""
    await typed(temporal, tmp_path, _CREATED[0])

    said = [await typed(temporal, tmp_path, command) for command in _REST]

    assert len(said) == 7
    assert "Europe/Berlin" in said[1]
    assert fleet
