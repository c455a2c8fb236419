"""A real Temporal dev server for all integration tests, with the fleet's plug-in and search attributes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from on_a_server import SUGGESTED_AFTER
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts import attributes
from worker.plugin import qe_plugin


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType] - a bare generic of its own
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")),
        dev_server_log_level="error",
        plugins=[qe_plugin()],
        search_attributes=attributes.ALL,
        dev_server_extra_args=[
            "--dynamic-config-value",
            f"limit.historyCount.suggestContinueAsNew={SUGGESTED_AFTER}",
        ],
    ) as environment:
        yield environment
