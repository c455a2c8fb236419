"""The pages on cost and for those who come from the former fleet, typed into a shell, run as they stand."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import environment, qe
from doc_pages import TARGET, Command, Page
from doc_session import Shell
from fleet_process import FleetProcess
from planted import make_project
from temporalio.client import Client
from temporalio.worker import Worker

from qefleet.agents.catalogue import built_in
from qefleet.agents.checks import check_options
from qefleet.contracts.patterns import PipelineInput
from qefleet.llm.prices import load_prices
from qefleet.testing.provider import ScriptedProvider

PAGE, COST = Page.read("migrating/README.md"), Page.read("models-and-cost.md")
REPLIES = f"{Path(__file__).parent / 'planted.py'}:answer"
NEW = [block for block in PAGE.blocks("python") if "# 1.x" not in block]


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


async def test_commands_do_what_the_page_shows(fleet: FleetProcess, project: Path, tmp_path: Path) -> None:
    """In the page's order."""
    shell = Shell({**fleet.env, "TEMPORAL_ADDRESS": fleet.address}, tmp_path, str(project))

    await asyncio.to_thread(shell.play, PAGE.commands)


async def test_cost_page_shows_what_was_spent(fleet: FleetProcess, project: Path, tmp_path: Path) -> None:
    """Of a run with two agents that ask a model once each."""
    shell = Shell({**fleet.env, "TEMPORAL_ADDRESS": fleet.address}, tmp_path, str(project))
    agents = ["coverage-analyzer", "test-generator"]
    given = json.dumps({"target": TARGET, "agents": agents})
    typed = (
        "temporal workflow execute --type Pipeline --task-queue qe-fleet --workflow-id qe-cost"
        f" --input '{given}'"
    )

    await asyncio.to_thread(shell.play, [Command(typed, ("Status COMPLETED",)), *COST.commands])


async def test_recall_asks_the_providers_model_through_the_gateway(
    fleet: FleetProcess, tmp_path: Path
) -> None:
    """With the keys of `qe up`; the call is in the ledger with its price."""
    env = {**fleet.env, "QE_EMBEDDINGS": "openai/text-embedding-3-small"}
    stored = {"aqe/notes/parser": "the parser is slow", "aqe/notes/hashes": "weak hashes of passwords"}
    for key, note in stored.items():
        qe("memory", "store", key, json.dumps(note), "--project", "planted", env=env, cwd=tmp_path)

    recall = ("memory", "recall", "slow parser", "-k", "1", "--project", "planted", "--json")
    recalled = await asyncio.to_thread(lambda: qe(*recall, env=env, cwd=tmp_path))
    again = await asyncio.to_thread(lambda: qe(*recall, env=env, cwd=tmp_path))
    listed = qe("calls", "--json", env=env, cwd=tmp_path).json
    calls = [call for call in listed if call["agent"] == "memory"]

    assert (recalled.code, recalled.err) == (0, "")
    assert [match["key"] for match in recalled.json] == ["aqe/notes/parser"]
    assert again.json == recalled.json
    assert [call["model"] for call in calls] == ["text-embedding-3-small"] * 2
    assert sum(call["replays"] for call in calls) == 1
    assert all(Decimal(str(call["cost_usd"])) > 0 for call in calls)


async def test_memory_is_there_for_other_workflows(
    fleet: FleetProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow of the memory page, on a worker of its own."""
    (block,) = [block for block in Page.read("memory.md").blocks("python") if "workflow.defn" in block]
    (tmp_path / "notes_of.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType] - bare in pytest
    notes_of = importlib.import_module("notes_of")
    qe("memory", "store", "aqe/notes/a", "1", "--project", "noted", env=fleet.env, cwd=tmp_path)
    client = await Client.connect(fleet.address)

    async with Worker(client, task_queue="own", workflows=[notes_of.NotesOf]):
        keys = await client.execute_workflow("NotesOf", "noted", id="notes-of", task_queue="own")

    assert keys == ["aqe/notes/a"]


async def test_python_runs_both_agents(fleet: FleetProcess, project: Path) -> None:
    """What replaces the orchestrator's call prints a line for each."""
    (block,) = NEW
    source = block.replace(TARGET, str(project)).replace("localhost:7233", fleet.address)
    said = io.StringIO()

    def run() -> None:
        with redirect_stdout(said):
            exec(source, {})

    await asyncio.to_thread(run)

    assert [line.split()[:2] for line in said.getvalue().splitlines()] == [
        ["test-executor", "completed"],
        ["coverage-analyzer", "completed"],
    ]


def test_prices_of_the_cost_page_are_read(tmp_path: Path) -> None:
    """Its table is one that `QE_PRICES` can name."""
    (table,) = COST.blocks("toml")
    (tmp_path / "prices.toml").write_text(table)

    price = load_prices(tmp_path / "prices.toml").of("openai", "our-own-model")

    assert price is not None
    assert price.cost(1_000_000, 1_000_000) == Decimal("0.2")


@pytest.mark.parametrize("page", [PAGE, COST], ids=lambda page: page.name)
def test_inputs_are_those_that_the_agents_take(page: Page) -> None:
    """The JSON documents are inputs of a `Pipeline`, with options that are there."""
    for value in page.inputs:
        for spec in PipelineInput.model_validate(value).agents:
            check_options(built_in().get(spec.agent), spec.options, field="options")


def test_patterns_of_the_table_exist() -> None:
    """Each workflow that is named in the right column is one of ours."""
    named = set(re.findall(r"^\| `(?:execute_\w+)[^|]*\| `(\w+)`", PAGE.text, re.MULTILINE))

    assert named == {
        "Pipeline",
        "Parallel",
        "FanOutFanIn",
        "ParallelExpansion",
        "Conditional",
        "Hierarchical",
    }
