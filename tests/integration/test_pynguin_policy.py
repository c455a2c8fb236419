"""Runs that ask for Pynguin, opened as in production, with it and without."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from uuid import uuid4

import pytest

from qefleet.agents.catalogue import built_in
from qefleet.contracts.learning import Policy
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.runs import AgentSpec, CommonInput
from qefleet.contracts.steps import OpenRun
from qefleet.errors import InvalidInput
from qefleet.fleet.lifecycle import Lifecycle
from qefleet.fleet.store import RunStore
from qefleet.llm.models import ModelChoice
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.tools.generation.pynguin import PYNGUIN, can_search
from qefleet.workspace.sandbox import Sandbox
from qefleet.workspace.workspace import Workspaces


@pytest.fixture
async def lifecycle(database: str, sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Lifecycle]:
    async with await open_pool(database) as pool:
        artifacts = Artifacts(pool)
        uv = Path(sys.executable).with_name("uv")
        yield Lifecycle(
            catalogue=built_in(),
            store=RunStore(pool),
            workspaces=Workspaces(data_dir=tmp_path, sandbox=sandbox, artifacts=artifacts, uv=uv),
            artifacts=artifacts,
            models=ModelChoice(default="none", providers=frozenset()),
            flows={},
        )


def _request() -> OpenRun:
    steps = [StepSpec(step="test-generator#0", field="agents[0]", spec=AgentSpec(agent="test-generator"))]
    given = CommonInput.model_validate({"target": "pypi:x==1", "policy": "pynguin"})
    return OpenRun(run=str(uuid4()), workflow_id="w", pattern="Pipeline", input=given, steps=steps)


@pytest.mark.skipif(PYNGUIN.version() is None, reason=f"no Pynguin here: {PYNGUIN.how_to_install}")
async def test_a_run_may_ask_for_pynguin_where_it_is(lifecycle: Lifecycle) -> None:
    """Without a model, too."""
    plan = await lifecycle.open(_request())

    assert [step.policy for step in plan.steps] == [Policy.PYNGUIN]


async def test_a_run_that_asks_for_pynguin_is_refused_where_it_is_not(
    lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its start, with the field and what to install; and nothing offers it."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)

    with pytest.raises(InvalidInput, match=r"pip install 'qefleet\[pynguin\]'") as refused:
        await lifecycle.open(_request())
    assert refused.value.field == "policy"
    assert not can_search(sys.version.split()[0])
