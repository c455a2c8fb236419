"""Recorded histories of released workflows still replay: runs that are open survive an upgrade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from changed import Changed
from temporalio import workflow
from temporalio.worker import Replayer

from worker.plugin import qe_plugin
from worker.registry import REPLAYED
from worker.replay import history_from_json, replay_one

HISTORIES = {
    path.stem: path.read_text() for path in sorted((Path(__file__).parents[2] / "histories").glob("*.json"))
}


def _type_of(kind: type[Any]) -> str | None:
    return workflow._Definition.must_from_class(kind).name  # pyright: ignore[reportPrivateUsage] - nothing public tells a class's name in histories


def test_each_workflow_type_has_a_history() -> None:
    """No type can be changed unnoticed; `make histories` records one that is missing."""
    started = "workflowExecutionStartedEventAttributes"
    recorded = {json.loads(text)["events"][0][started]["workflowType"]["name"] for text in HISTORIES.values()}

    assert recorded == {_type_of(kind) for kind in REPLAYED}


@pytest.mark.parametrize("name", HISTORIES)
async def test_recorded_history_replays(name: str) -> None:
    """Today's code makes the same decisions that were recorded."""
    replayed = await replay_one(history_from_json(HISTORIES[name]))

    assert replayed.problem is None


async def test_incompatible_change_is_noticed() -> None:
    """A Pipeline that begins otherwise than the recorded one doesn't replay."""
    history = history_from_json(HISTORIES["pipeline"])

    replayed = await Replayer(workflows=[Changed], plugins=[qe_plugin()]).replay_workflow(
        history, raise_on_replay_failure=False
    )

    assert isinstance(replayed.replay_failure, workflow.NondeterminismError)
    assert "TMPRL1100" in str(replayed.replay_failure)
