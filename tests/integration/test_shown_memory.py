"""What a step's model is shown of its project's memory, and that asking again shows the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from commanded import STEP, Commanded, commanded

from qefleet.fleet.shown_memory import MemoryViews
from qefleet.llm.receipts import usage_of
from qefleet.memory.postgres import PostgresMemory
from qefleet.memory.shown import TOKENS
from qefleet.testing.postgres import ThrowAwayPostgres


@pytest.fixture
async def fleet(postgres: ThrowAwayPostgres, tmp_path: Path) -> AsyncIterator[Commanded]:
    async with postgres.database() as dsn, commanded(dsn, tmp_path) as running:
        yield running


async def last_prompt(fleet: Commanded) -> str:
    return json.dumps((await fleet.prompts())[-1], ensure_ascii=False)


async def test_model_is_shown_what_the_declaration_names(fleet: Commanded) -> None:
    """Notes and approvals of the run's own project that haven't expired; the result counts them."""
    memory = PostgresMemory(fleet.pool, project="planted")
    await memory.store("aqe/notes/owner", {"team": "parsers"})
    await memory.store("aqe/approvals/wf/run/decision", {"reason": "known to fail"})
    await memory.store("aqe/coverage/gaps", "nobody's business")
    await memory.store("aqe/notes/elsewhere", "in a partition", partition="other")
    await PostgresMemory(fleet.pool, project="another").store("aqe/notes/owner", {"team": "strangers"})

    run = await fleet.open()
    result, _, _ = await fleet.judge(run)
    prompt = await last_prompt(fleet)

    assert "parsers" in prompt
    assert "known to fail" in prompt
    assert not [text for text in ("nobody's business", "in a partition", "strangers") if text in prompt]
    shown = await MemoryViews(fleet.pool).of(str(run), STEP)
    assert shown is not None
    assert shown.entries == 2
    assert result.status == "completed"


async def test_retry_asks_the_same_whatever_is_remembered_meanwhile(fleet: Commanded) -> None:
    """Also where there was nothing at first: one call is paid, however often the step is done again."""
    memory = PostgresMemory(fleet.pool, project="planted")
    for number in range(2):
        run = await fleet.open()
        await fleet.judge(run)
        await memory.store("aqe/notes/new", f"written meanwhile, {number}")
        await fleet.judge(run)
        usage = await usage_of(fleet.pool, run)

        assert (usage.calls, usage.replayed_calls) == (1, 1)
    assert "written meanwhile, 0" in await last_prompt(fleet)


async def test_thousand_long_notes_stay_in_the_budget(fleet: Commanded) -> None:
    """The newest are shown, in no more bytes than the budget has; the prompt says how many are not."""
    run = await fleet.open()
    await fleet.judge(run)
    bare = len((await last_prompt(fleet)).encode())
    memory = PostgresMemory(fleet.pool, project="planted")
    for number in range(1_000):
        await memory.store(f"aqe/notes/{number}", f"note {number} " + "ä" * 300)
    await fleet.judge(await fleet.open())
    prompt = await last_prompt(fleet)

    assert "note 999 " in prompt
    assert "note 500 " not in prompt
    assert "more left out" in prompt
    assert len(prompt.encode()) - bare < 2 * TOKENS + 400


async def test_nothing_remembered_changes_nothing(fleet: Commanded) -> None:
    """A later run without memory asks byte for byte what the first one asked."""
    await fleet.judge(await fleet.open())
    await fleet.judge(await fleet.open(project="another"))
    first, second = await fleet.prompts()

    assert first == second
    assert "in memory about this project" not in json.dumps(first)
