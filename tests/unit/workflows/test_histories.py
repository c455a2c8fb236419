"""Recorded histories of released workflows still replay: runs that are open survive an upgrade."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from worker.main import WORKFLOWS
from worker.plugin import qe_plugin

HISTORIES = {
    path.stem: path.read_text() for path in sorted((Path(__file__).parents[2] / "histories").glob("*.json"))
}


def test_there_are_histories() -> None:
    """At least the Pipeline's is kept."""
    assert "pipeline" in HISTORIES


@pytest.mark.parametrize("name", HISTORIES)
async def test_recorded_history_replays(name: str) -> None:
    """Today's code makes the same decisions that were recorded."""
    history = WorkflowHistory.from_json(name, HISTORIES[name])

    replayed = await Replayer(workflows=WORKFLOWS, plugins=[qe_plugin()]).replay_workflow(
        history, raise_on_replay_failure=False
    )

    assert replayed.replay_failure is None
