"""`qe replay`: histories of a real server against the installed version."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from changed import Changed
from fakes import FakeFleet
from on_a_server import start, working
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests.acceptance.command_line import Ended, environment, qe


@pytest.fixture
async def queue(temporal: WorkflowEnvironment) -> str:
    """A task queue with a run that was made by today's code, and an open one that wasn't."""
    async with working(temporal, FakeFleet()) as name:
        done = await start(temporal, name, "pypi:x==1")
        await done.result()
    async with Worker(temporal.client, task_queue=name, workflows=[Changed]):
        other = await start(temporal, name, "pypi:x==1")
        async for event in other.fetch_history_events(wait_new_event=True):
            if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED:
                break
    return name


async def replay(temporal: WorkflowEnvironment, folder: Path, *arguments: str) -> Ended:
    env = environment(folder / "data", TEMPORAL_ADDRESS=temporal.client.service_client.config.target_host)
    return await asyncio.to_thread(qe, "replay", *arguments, env=env, cwd=folder)


async def test_compatible_runs_exit_0(temporal: WorkflowEnvironment, queue: str, tmp_path: Path) -> None:
    """A query picks runs from the server; each is told in a line."""
    query = f'TaskQueue = "{queue}" AND ExecutionStatus = "Completed"'

    ended = await replay(temporal, tmp_path, "--query", query)

    assert (ended.code, ended.err) == (0, "")
    assert [line.split()[::2] for line in ended.out.splitlines()] == [["✓", "Pipeline"]]


async def test_incompatible_run_exits_1_and_says_what_to_do(
    temporal: WorkflowEnvironment, queue: str, tmp_path: Path
) -> None:
    """The line has Temporal's own message; the advice stands below."""
    ended = await replay(temporal, tmp_path, "--query", f'TaskQueue = "{queue}"')

    assert ended.code == 1
    assert sorted(line[0] for line in ended.out.splitlines()) == ["✓", "✗"]
    assert "Pipeline: [TMPRL1100] Nondeterminism error" in ended.out
    assert ended.err.startswith("what to do:")


async def test_programs_read_json(temporal: WorkflowEnvironment, queue: str, tmp_path: Path) -> None:
    """One object tells the build, the outcome and each run."""
    ended = await replay(temporal, tmp_path, "--json", "--query", f'TaskQueue = "{queue}"')

    assert (ended.code, ended.json["compatible"]) == (1, False)
    assert sorted(run["compatible"] for run in ended.json["runs"]) == [False, True]
    assert ended.json["build_id"]


async def test_histories_are_read_from_files(
    temporal: WorkflowEnvironment, queue: str, tmp_path: Path
) -> None:
    """What the Temporal CLI writes is read without a server."""
    env = environment(tmp_path, TEMPORAL_ADDRESS=temporal.client.service_client.config.target_host)
    async for run in temporal.client.list_workflows(f'TaskQueue = "{queue}"'):
        show = ["workflow", "show", "--workflow-id", run.id, "--output", "json"]
        shown = await asyncio.to_thread(qe, *show, env=env, cwd=tmp_path, program=("temporal",))
        (tmp_path / f"{run.status.name if run.status else ''}.json").write_text(shown.out)

    env = environment(tmp_path)
    good = await asyncio.to_thread(qe, "replay", "COMPLETED.json", env=env, cwd=tmp_path)
    bad = await asyncio.to_thread(qe, "replay", "COMPLETED.json", "RUNNING.json", env=env, cwd=tmp_path)

    assert (good.code, bad.code) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.json",), "missing.json can't be read"),
        (("no-history.json",), "no-history.json isn't a history"),
        (("--move", "no-history.json"), "--move"),
        (("--query", "x", "no-history.json"), "--query"),
        ((), "nothing is running here"),
    ],
)
def test_unusable_arguments_exit_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """The message names what is wrong."""
    (tmp_path / "no-history.json").write_text('{"events": [{}]}')

    ended = qe("replay", *arguments, env=environment(tmp_path / "data"), cwd=tmp_path)

    assert (ended.code, said in ended.err) == (2, True), ended.err


async def test_wrong_query_exits_2(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    """The server's own message says where it is wrong."""
    ended = await replay(temporal, tmp_path, "--query", "NoSuchAttribute = 1")

    assert (ended.code, "--query" in ended.err) == (2, True)
