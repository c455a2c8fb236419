"""Records the history of each workflow type on a real Temporal server: `make histories`.

Run it when a workflow was changed incompatibly on purpose, or to add a type; see README.md here.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes import FakeFleet
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from qefleet.contracts import attributes
from worker.plugin import qe_plugin
from worker.registry import WORKFLOWS

FOLDER = Path(__file__).parent
X = "pypi:x==1"
GENERATE = {"agent": "test-generator"}
COVERAGE = {"id": "coverage", "agent": "coverage-analyzer"}
GATE = {"id": "gate", "agent": "quality-gate", "depends_on": ["parts"]}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A run whose history is kept in `<type>.json`."""

    type: str
    value: Any = X
    """Its input."""
    fleet: dict[str, Any] = field(default_factory=dict[str, Any])
    """Arguments of `FakeFleet`."""
    children: tuple[str, ...] = ()
    """Types of its child workflows whose history is kept too: the first of each."""


RECORDINGS = (
    Recording(type="Pipeline"),
    Recording(type="Parallel"),
    Recording(type="FanOutFanIn", fleet={"parts": 2}, children=("Expansion", "Item")),
    Recording(type="ParallelExpansion", value={"target": X, "over": ["a", "b"], "agents": ["test-executor"]}),
    Recording(type="Conditional"),
    Recording(
        type="Hierarchical",
        fleet={"commands": {"fleet-commander#0": {"tasks": [{"id": "run", "agent": "test-executor"}]}}},
        children=("Task",),
    ),
    Recording(
        type="Flow",
        value={
            "target": X,
            "steps": [COVERAGE, {"id": "parts", "agents": [GENERATE], "for_each": "coverage"}, GATE],
        },
        fleet={"parts": 2},
    ),
    Recording(type="Release"),
)


async def record(client: Client, recording: Recording) -> None:
    """Run it to its end and write its history down."""
    queue = f"histories-{recording.type}"
    fleet = FakeFleet(**recording.fleet)
    async with Worker(
        client, task_queue=queue, workflows=WORKFLOWS, activities=fleet.activities, identity="worker"
    ):
        run = await client.start_workflow(
            recording.type, recording.value, id=recording.type, task_queue=queue
        )
        await run.result()
    await _write(client, recording.type, run.id)
    for child in recording.children:
        query = f"WorkflowType = '{child}' AND RootWorkflowId = '{run.id}'"
        first = await anext(client.list_workflows(query))
        await _write(client, child, first.id)


async def _write(client: Client, kind: str, workflow_id: str) -> None:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    (FOLDER / f"{_file_name(kind)}.json").write_text(history.to_json() + "\n")
    sys.stdout.write(f"{kind}: {len(history.events)} events\n")


def _file_name(kind: str) -> str:
    """`FanOutFanIn` → `fan-out-fan-in`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind).lower()


async def main(only: list[str]) -> None:
    """Record all, or these types."""
    async with await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType] - a bare generic of its own
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")),
        dev_server_log_level="error",
        plugins=[qe_plugin()],
        search_attributes=attributes.ALL,
        identity="recorder",
    ) as environment:
        for recording in RECORDINGS:
            if not only or recording.type in only:
                await record(environment.client, recording)
    # The SDK's threads still bring back what the server's end made of their last calls; they crash when
    # Python is gone by then.
    await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
