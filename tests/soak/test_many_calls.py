"""A run with a hundred model calls: its history, and what a reset costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import make_project
from running_fleet import HERE, figures, reset_and_wait, running_fleet

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
CALLS = 100


async def test_reset_pays_for_none_of_a_hundred_calls(tmp_path: Path) -> None:
    """100 calls, then a reset to the first task: no request more, and less than 3 KB of history a call."""
    project = make_project(tmp_path / "project", functions=CALLS)
    generator = {"agent": "test-generator", "options": {"max_segments": CALLS, "max_rounds": 1}}
    replies = f"{HERE / 'planted.py'}:refuse"
    async with running_fleet(tmp_path / "data", replies=replies) as fleet:
        before = await fleet.execute({"target": str(project), "agents": [generator]}, workflow_id="many")
        paid = len(await fleet.provider.requests())
        history = await fleet.client.get_workflow_handle("many").fetch_history()
        after = await reset_and_wait(fleet.client, "many")
        size = sum(event.ByteSize() for event in history.events)
        print(f"{paid} requests, {size} bytes of history, {len(await fleet.provider.requests())} after reset")  # noqa: T201

        assert paid == CALLS
        assert len(await fleet.provider.requests()) == paid
        assert figures(after) == figures(before)
        assert size / CALLS < 3 * 1024
