"""Choices and rewards in a real Postgres: once, whoever does them again, and never over projects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import asyncpg
import pytest
from fakes import FakeFleet
from on_a_server import replays, start, working
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts.base import Digest
from qefleet.contracts.generation import KeptTest
from qefleet.contracts.learning import Choice, Features, Gains, Order, Policy, Strategy, Tier
from qefleet.contracts.runs import CommonInput
from qefleet.contracts.steps import OpenRun, Plan, RewardStrategy
from qefleet.contracts.targets import Snapshot
from qefleet.fleet.store import RunStore
from qefleet.learning.reward import PYNGUIN_PROCESSES, WEIGHTS, reward
from qefleet.learning.store import Decider, LearningStore
from qefleet.sql.database import open_pool

_DIGEST: Digest = "0" * 64
_AGENT = "test-generator"
_WITHOUT = Features(kind="function", example=False, typed=False, size="short", missing="few", model="none")
_WITH = _WITHOUT.model_copy(update={"model": "large"})
_GOOD = Gains(missing=2, gained=2, proposed=1, kept=1, mutants_killed=1, mutants_tried=1, processes=6)
_VAIN = Gains(missing=2, proposed=2, processes=10)


@dataclass
class Learning:
    """A store, and short ways to ask it."""

    pool: asyncpg.Pool
    store: LearningStore

    async def run(self, project: str = "x") -> str:
        run = str(uuid4())
        store = RunStore(self.pool)
        request = OpenRun(run=run, workflow_id=f"qe-{run}", pattern="Pipeline", input=CommonInput())
        await store.open(request, Plan(target="x", model="none", steps=[]))
        await store.set_snapshot(run, Snapshot(digest=_DIGEST, name=project, files=1, size_bytes=1))
        return run

    def decider(self, run: str, item: str, policy: Policy = Policy.LEARNED, seed: int = 1) -> Decider:
        return Decider(
            run=run, step="test-generator#0", item=item, position=0, agent=_AGENT, policy=policy, seed=seed
        )

    async def choose(
        self,
        run: str,
        item: str,
        *,
        features: Features = _WITHOUT,
        policy: Policy = Policy.LEARNED,
        tiers: tuple[Tier, ...] = (),
        position: int = 0,
    ) -> Choice:
        who = replace(self.decider(run, item, policy), position=position)
        return await self.store.choose(who, features, tiers=tiers)

    async def goes_on(self, run: str, item: str, number: int, gains: Gains, *, seed: int = 1) -> bool:
        who = self.decider(run, item, seed=seed)
        return await self.store.choose_depth(who, _WITH, number=number, kept=gains.kept, gains=gains)

    async def reward(self, run: str, item: str, gains: Gains, lessons: tuple[KeptTest, ...] = ()) -> float:
        request = RewardStrategy(
            run=run, workflow_id="w", step="test-generator#0", item=item, position=0, state=_DIGEST
        )
        return await self.store.reward(request, gains, lessons)

    async def values(self) -> dict[str, tuple[float, int]]:
        rows = await self.pool.fetch("SELECT action, value, visits FROM q_values")
        return {row["action"]: (row["value"], row["visits"]) for row in rows}


@pytest.fixture
async def learning(database: str) -> AsyncIterator[Learning]:
    async with await open_pool(database) as pool:
        yield Learning(pool, LearningStore(pool))


def _kept(item: str) -> KeptTest:
    return KeptTest(
        name="test_it", segment=item, module="m", imports=["import m"], source=f"def test_it():\n    m.{item}"
    )


async def test_the_first_choice_stands(learning: Learning) -> None:
    """Twenty that choose at once, with other values in between, get one answer, and there is one row."""
    run = await learning.run()
    made = await asyncio.gather(*(learning.choose(run, "m:f") for _ in range(20)))
    await learning.pool.execute("INSERT INTO q_values SELECT $1, $2, 'doctest', 9", _AGENT, _WITHOUT.key)

    assert len({choice.strategy for choice in [*made, await learning.choose(run, "m:f")]}) == 1
    assert await learning.pool.fetchval("SELECT count(*) FROM choices") == 1


async def test_a_reward_counts_once(learning: Learning) -> None:
    """Ten that reward one item at once, and one that comes later with other figures: one row, one visit."""
    run = await learning.run()
    await learning.choose(run, "m:f", policy=Policy.DOCTEST)
    given = await asyncio.gather(*(learning.reward(run, "m:f", _GOOD) for _ in range(10)))
    later = await learning.reward(run, "m:f", _VAIN)

    assert {*given, later} == {reward(_GOOD)}
    assert await learning.values() == {"doctest": (reward(_GOOD), 1)}
    assert await learning.pool.fetchval("SELECT count(*) FROM trajectories") == 1


async def test_rewards_change_what_is_chosen_next(learning: Learning) -> None:
    """Each strategy is tried once; then the one that gained is chosen nearly always."""
    for number in range(60):
        run = await learning.run()
        choice = await learning.choose(run, f"m:f{number}")
        gained = choice.strategy is Strategy.GHOSTWRITER
        await learning.reward(run, f"m:f{number}", _GOOD if gained else _VAIN)
    rows = await learning.pool.fetch("SELECT action, reason FROM choices ORDER BY rewards_before")
    last = [row["action"] for row in rows[-30:]]

    tried = {row["action"] for row in rows if row["reason"] != "best"}
    assert tried == {"tools", "doctest", "ghostwriter", "search"}
    assert last.count("ghostwriter") >= 22
    assert {row["action"] for row in rows if row["reason"] == "best"} == {"ghostwriter"}


async def test_a_choice_says_why_it_was_made(learning: Learning) -> None:
    """State, alternatives with their values and visits, the share of chance, and how much was learnt."""
    first, second = await learning.run(), await learning.run()
    await learning.choose(first, "m:f", policy=Policy.DOCTEST)
    await learning.reward(first, "m:f", _GOOD)
    await learning.choose(second, "m:f", policy=Policy.TOOLS)
    row = await learning.pool.fetchrow("SELECT * FROM choices WHERE run_id = $1", UUID(second))

    assert row is not None
    assert (row["policy"], row["reason"], row["rewards_before"]) == ("tools", "fixed", 1)
    assert row["state_key"] == _WITHOUT.key
    known = {a["action"]: (a["value"], a["visits"]) for a in row["alternatives"]}
    never = (pytest.approx(WEIGHTS.best), 0)
    tried = (reward(_GOOD) + 2 * (reward(_GOOD) + 2 * WEIGHTS.best) / 3) / 3  # drawn to what it is elsewhere
    assert known == {
        "tools": never,
        "doctest": (pytest.approx(tried), 1),
        "ghostwriter": never,
        "search": never,
    }


async def test_a_kept_test_is_recalled_for_similar_code_of_the_same_project_only(learning: Learning) -> None:
    """Another project's choice is not even offered to recall; the own segment's test is no example."""
    run = await learning.run("mine")
    await learning.choose(run, "m:f", features=_WITH, policy=Policy.DIRECT)
    await learning.reward(run, "m:f", _GOOD, (_kept("m:f"),))
    mine, other = await learning.run("mine"), await learning.run("other")
    await learning.choose(mine, "m:g", features=_WITH, policy=Policy.RECALLED)
    await learning.choose(other, "m:g", features=_WITH, policy=Policy.RECALLED)
    await learning.choose(mine, "m:f", features=_WITH, policy=Policy.RECALLED)

    assert "def test_it" in await learning.store.recalled(mine, "test-generator#0", "m:g")
    assert await learning.store.recalled(other, "test-generator#0", "m:g") == ""
    assert await learning.store.recalled(mine, "test-generator#0", "m:f") == ""


async def test_a_pattern_that_does_not_help_goes(learning: Learning) -> None:
    """Recalled four times in vain: it is not recalled a fifth time; what was asked before stays as it was."""
    run = await learning.run()
    await learning.choose(run, "m:f", features=_WITH, policy=Policy.DIRECT)
    await learning.reward(run, "m:f", _GOOD, (_kept("m:f"),))
    runs = [await learning.run() for _ in range(5)]
    for each in runs:
        await learning.choose(each, "m:g", features=_WITH, policy=Policy.RECALLED)
        await learning.reward(each, "m:g", _VAIN)
    texts = [await learning.store.recalled(each, "test-generator#0", "m:g") for each in runs]

    assert [bool(text) for text in texts] == [True, True, True, True, False]
    row = await learning.pool.fetchrow("SELECT uses, successes, retired_at FROM patterns")
    assert row is not None
    assert (row["uses"], row["successes"]) == (4, 0)
    assert row["retired_at"] is not None


async def test_what_was_learnt_moves_to_another_database(learning: Learning, database: str) -> None:
    """Exported, forgotten, imported twice: the same values and patterns; a pattern's id is computed anew."""
    run = await learning.run()
    await learning.choose(run, "m:f", policy=Policy.DOCTEST)
    await learning.reward(run, "m:f", _GOOD, (_kept("m:f"),))
    learnt = await learning.store.export()
    await learning.pool.execute("DELETE FROM q_values")
    await learning.pool.execute("DELETE FROM patterns")
    forged = learnt.patterns[0].model_copy(update={"pattern_id": "somebody else's"})
    await learning.store.import_(learnt.model_copy(update={"patterns": [forged]}))
    await learning.store.import_(learnt)

    assert database
    assert await learning.store.export() == learnt


async def test_the_tier_whose_tests_are_worth_their_cost_is_learnt(learning: Learning) -> None:
    """A dear model that gains no more than the agent's own: after forty items it is hardly asked."""
    asked: list[str | None] = []
    for number in range(40):
        run = await learning.run()
        choice = await learning.choose(run, f"m:f{number}", features=_WITH, tiers=("moderate", "complex"))
        dear = choice.tier == "complex"
        await learning.reward(run, f"m:f{number}", _GOOD.model_copy(update={"cost_usd": 0.04 if dear else 0}))
        asked.append(choice.tier)
    by_tools = await learning.choose(await learning.run(), "m:g", tiers=("moderate", "complex"))

    assert asked.count("complex") >= 1
    assert [tier for tier in asked[-20:] if tier].count("complex") <= 3
    assert by_tools.tier is None
    values = await learning.values()
    assert values["tier:moderate"][0] - values["tier:complex"][0] == pytest.approx(0.08)


async def test_going_on_is_learnt_from_what_further_rounds_add(learning: Learning) -> None:
    """Rounds that add nothing and cost tokens: soon an item is left after its first one."""
    vain = [_VAIN + Gains(output_tokens=300 * n) for n in range(3)]
    rounds: list[int] = []
    for number in range(60):
        run, item = await learning.run(), f"m:f{number}"
        await learning.choose(run, item, features=_WITH)
        done = 1
        while done < 3 and await learning.goes_on(run, item, done + 1, vain[done - 1], seed=number):
            done += 1
        await learning.reward(run, item, vain[done - 1])
        rounds.append(done)

    assert max(rounds[:5]) == 3
    assert rounds[-20:].count(1) >= 15


async def test_a_round_is_worth_what_it_adds_and_what_may_come_after(learning: Learning) -> None:
    """Both values move by a tenth: to what a round added, the first one's also to 0.95 of the second's."""
    run = await learning.run()
    first = Gains(proposed=2)
    second = first + Gains(missing=6, gained=1)
    third = second + Gains(gained=5, mutants_killed=1, mutants_tried=5)
    await learning.choose(run, "m:f", features=_WITH)
    await learning.pool.execute(
        "INSERT INTO q_values SELECT $1, $2, 'again', 0.2, 7", _AGENT, f"round 3/none/{_WITH.key}"
    )
    assert await learning.goes_on(run, "m:f", 2, first)
    assert await learning.goes_on(run, "m:f", 3, second)
    await learning.reward(run, "m:f", third)
    again = await learning.reward(run, "m:f", third)
    rows = await learning.pool.fetch("SELECT * FROM q_values WHERE action = 'again' ORDER BY state_key")
    found = {row["state_key"].partition("/")[0]: (row["value"], row["visits"]) for row in rows}

    assert again == reward(third)
    assert found["round 2"] == (pytest.approx(0.1 + 0.1 * (0.05 + 0.95 * 0.2 - 0.1)), 1)
    assert found["round 3"] == (pytest.approx(0.2 + 0.1 * (reward(third) - reward(second) - 0.2)), 8)


async def test_an_order_is_worth_what_its_items_gained(learning: Learning) -> None:
    """Of ways to begin, the one whose items gain is chosen; counted once; without issues there is no risk."""
    chosen: list[Order] = []
    for number in range(40):
        run = await learning.run()
        who = Decider(run=run, step="test-generator#0", agent=_AGENT, seed=number)
        order = await learning.store.choose_order(who, "none", issues=True)
        for position, item in enumerate("fg"):
            await learning.choose(run, item, policy=Policy.TOOLS, position=position)
            await learning.reward(run, item, _GOOD if order is Order.SHORT else _VAIN)
        await learning.store.reward_order(run, who.step)
        await learning.store.reward_order(run, who.step)
        chosen.append(order)
    other = Decider(run=await learning.run(), step="test-generator#0", agent=_AGENT)

    assert chosen[-20:].count(Order.SHORT) >= 15
    assert (await learning.values())["order:short"][0] == pytest.approx(reward(_GOOD))
    assert sum(v for name, (_, v) in (await learning.values()).items() if name.startswith("order")) == 40
    assert await learning.store.choose_order(other, "none", issues=False) is not Order.RISK


async def test_a_run_that_learns_chooses_and_rewards_each_item_once(temporal: WorkflowEnvironment) -> None:
    """A choice without a model drafts, one with a model asks while it is worth it; the history replays."""
    fleet = FakeFleet(items=4, rounds_needed=3)
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": "/x", "policy": "learned", "agents": [_AGENT]})
        await handle.result()

        assert await replays(handle)
    assert {name: fleet.calls[name] for name in ("choose_strategy", "reward_strategy")} == {
        "choose_strategy": 4,
        "reward_strategy": 4,
    }
    assert (fleet.calls["propose"], fleet.calls["draft"]) == (4, 2)
    assert fleet.calls["choose_depth"] == 4


async def test_a_tool_that_fails_to_propose_costs_its_item_a_note(temporal: WorkflowEnvironment) -> None:
    """The step completes, and the way is rewarded for what it gained: nothing."""
    fleet = FakeFleet(items=2, note="Pynguin ended with exit code 3")
    async with working(temporal, fleet) as queue:
        handle = await start(temporal, queue, {"target": "/x", "policy": "learned", "agents": [_AGENT]})
        result = await handle.result()

        assert await replays(handle)
    assert (result.steps[0].status, fleet.calls["reward_strategy"]) == ("completed", 2)
    assert [note for note in result.steps[0].notes if note.endswith(": Pynguin ended with exit code 3")]


async def test_what_a_search_by_pynguin_took_is_in_its_reward(learning: Learning) -> None:
    """And in what is told of it."""
    run = await learning.run()
    await learning.choose(run, "m:f", policy=Policy.PYNGUIN)
    given = await learning.reward(run, "m:f", _GOOD)
    told = await learning.pool.fetchval("SELECT measured #> '{gains,processes}' FROM trajectories")

    assert given == pytest.approx(reward(_GOOD) - WEIGHTS.time * PYNGUIN_PROCESSES / 60)
    assert told == _GOOD.processes + PYNGUIN_PROCESSES


async def test_a_run_that_does_not_learn_neither_chooses_nor_rewards(temporal: WorkflowEnvironment) -> None:
    """As before: an item is proposed for and tried."""
    fleet = FakeFleet(items=4)
    async with working(temporal, fleet) as queue:
        await (await start(temporal, queue, {"target": "/x", "agents": [_AGENT]})).result()

    assert (fleet.calls["choose_strategy"], fleet.calls["reward_strategy"]) == (0, 0)
    assert fleet.calls["propose"] == 4
