"""Measures what each strategy gains on real packages, once, and keeps it as a table for `test_learning_gain`.

PYTHONPATH=.:tests/integration .venv/bin/python tests/soak/measure_rewards.py [--model local] [--segments 3]
    [--minutes 60] [PACKAGE==VERSION ...]

Each cell is one round of test-generator's own code over the package's own suite: take a segment, propose by
the strategy, filter, count. What is in the table already is not measured again; it is written after each
cell, so that the program may be stopped at any time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import asyncpg
from gateway_process import SECRET, GatewayProcess, free_port

from qefleet.agents.agent import StepContext
from qefleet.agents.catalogue import built_in
from qefleet.agents.test_generator import TEST_GENERATOR, TestGeneratorOptions, TestProposal
from qefleet.contracts.base import Digest
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.learning import Gains, Strategy
from qefleet.contracts.runs import Thresholds
from qefleet.contracts.steps import Finding
from qefleet.contracts.targets import Target
from qefleet.errors import ModelUnusable, QeError
from qefleet.learning.reward import effort
from qefleet.llm import local_server
from qefleet.llm.client import ModelClient
from qefleet.llm.receipts import usage_of
from qefleet.llm.tokens import CallIdentity
from qefleet.llm.weights import cached_weights
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.workspace.sandbox import Sandbox
from qefleet.workspace.workspace import Workspaces

TABLE = Path(__file__).with_name("learning_rewards.json")
PACKAGES = (
    "boltons==26.2.0",
    "tabulate==0.10.0",
    "voluptuous==0.16.0",
    "prettytable==3.18.0",
    "toolz==1.2.0",
    "inflection==0.5.1",
    "sortedcontainers==2.4.0",
    "xmltodict==1.0.2",
    "parse==1.20.2",
    "jmespath==1.0.1",
    "funcy==2.0",
    "munch==4.0.0",
    "webcolors==24.11.1",
    "itsdangerous==2.2.0",
    "python-slugify==8.0.4",
    "semver==3.0.4",
    "unidiff==0.7.5",
    "pathspec==0.12.1",
    "wcwidth==0.2.14",
    "num2words==0.5.14",
    "tinydb==4.8.2",
    "isodate==0.7.2",
    "humanize==4.17.0",
    "cssselect==1.6.0",
    "natsort==8.4.0",
    "titlecase==2.4.1",
)
WITHOUT_MODEL = (Strategy.TOOLS, Strategy.DOCTEST, Strategy.GHOSTWRITER, Strategy.SEARCH, Strategy.PYNGUIN)
WITH_MODEL = (Strategy.DIRECT, Strategy.PROPERTIES, Strategy.RECALLED)
CHOSEN_FROM = 12
"""Segments that a run takes by default; those that are measured are spread evenly over them."""
MOST_RECALLED = 2
LOCAL_ANSWER_TOKENS = 400
"""As a run has it (qefleet/fleet/steps.py)."""


@dataclass
class Bench:
    """Places to measure in."""

    workspaces: Workspaces
    artifacts: Artifacts
    pool: asyncpg.Pool
    client: ModelClient | None
    table: dict[str, Any]

    async def package(self, requirement: str) -> Prepared | None:
        """A package's segments, from one run of its suite; None where there is nothing to generate."""
        try:
            target = Target.model_validate(f"pypi:{requirement}")
            snapshot = await self.workspaces.snapshot(target)
            environment = await self.workspaces.prepare(snapshot)
        except QeError as error:
            self._skip(requirement, str(error))
            return None

        def opened() -> Any:
            return self.workspaces.open(snapshot, environment)

        async def keep_items(items: Sequence[Item]) -> ItemList:
            return ItemList(source="", count=len(items))

        ctx = StepContext(
            run=str(uuid4()),
            workflow_id="bench",
            step="test-generator#0",
            options=TestGeneratorOptions(max_segments=CHOSEN_FROM),
            thresholds=Thresholds(),
            earlier=(),
            artifacts=self.artifacts,
            workspace=opened,
            unpatched=opened,
            catalogue=built_in(),
            keep_items=keep_items,
        )
        finding = await TEST_GENERATOR.measure(ctx)
        if not finding.work or finding.state is None:
            self._skip(requirement, finding.headline)
            return None
        return Prepared(requirement, ctx, finding, finding.state)

    def _skip(self, requirement: str, why: str) -> None:
        print(f"{requirement}: left out: {why[:200]}", flush=True)  # noqa: T201
        self.table["left_out"][requirement] = why[:200]
        save(self.table)

    async def cell(self, package: Prepared, item: str, strategy: Strategy) -> None:
        """Measure one strategy on one segment, unless it is in the table."""
        learner, loop = TEST_GENERATOR.learner, TEST_GENERATOR.loop
        assert learner is not None
        assert loop is not None
        model = "local" if strategy.uses_model else "none"
        features = await learner.features(package.ctx, item, package.state, model)
        key = f"{package.requirement} {item}"
        row = self.table["segments"].setdefault(
            key,
            {
                "package": package.requirement,
                "segment": item,
                "features": features.model_dump(exclude={"model"}),
                "gains": {},
            },
        )
        if strategy.value in row["gains"]:
            return
        started = time.monotonic()
        proposal, spent = await self._propose(package, item, strategy)
        if proposal is None and spent is None:
            return  # nothing to recall yet
        gains = await learner.gains(package.ctx, item, package.state)
        if proposal is not None:
            verdict = await loop.try_proposal(package.ctx, item, proposal, package.state)
            gains = await learner.gains(package.ctx, item, verdict.state)
            lessons = await learner.lessons(package.ctx, item, verdict.state)
            row.setdefault("kept", {})[strategy.value] = [test.source for test in lessons]
        gains += spent or Gains()
        gains = gains.model_copy(update={"duration_s": round(time.monotonic() - started, 1)})
        row["gains"][strategy.value] = gains.model_dump()
        save(self.table)
        told = f"{gains.kept} of {gains.proposed} kept, {gains.gained} gained, {gains.duration_s:.0f} s"
        print(f"{key} {strategy.value}: {told}", flush=True)  # noqa: T201

    async def _propose(
        self, package: Prepared, item: str, strategy: Strategy
    ) -> tuple[TestProposal | None, Gains | None]:
        learner = TEST_GENERATOR.learner
        assert learner is not None
        if not strategy.uses_model:
            drafted, note = await learner.draft_by(package.ctx, item, package.state, strategy)
            if note:
                print(f"{item} {strategy.value}: {note}", flush=True)  # noqa: T201
            return (drafted if isinstance(drafted, TestProposal) else None), effort(strategy)
        recalled = self._recalled(package.requirement, item) if strategy is Strategy.RECALLED else ""
        if self.client is None or (strategy is Strategy.RECALLED and not recalled):
            return None, None
        question = await learner.question_by(
            package.ctx, item, package.state, None, strategy=strategy, recalled=recalled
        )
        run = uuid4()
        identity = CallIdentity(
            run_id=run, workflow_id="bench", step=f"{item}/{strategy}", agent="test-generator"
        )
        question = replace(question, max_output_tokens=LOCAL_ANSWER_TOKENS)
        answer: TestProposal | None = None
        with suppress(ModelUnusable):
            answer = (await self.client.ask(question, model="local", identity=identity)).value
        usage = await usage_of(self.pool, run)
        return answer, Gains(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)

    def _recalled(self, requirement: str, item: str) -> str:
        """Tests that were kept for other segments of the package."""
        kept: list[str] = []
        for row in self.table["segments"].values():
            if row["package"] == requirement and row["segment"] != item:
                for sources in row.get("kept", {}).values():
                    kept += sources[:1]
        return "\n\n\n".join(dict.fromkeys(kept[:MOST_RECALLED]))


@dataclass(frozen=True)
class Prepared:
    """A package whose suite was run."""

    requirement: str
    ctx: StepContext
    finding: Finding
    state: Digest

    def items(self, count: int) -> list[str]:
        """Segments spread evenly over those that a run would take."""
        work = self.finding.work[:CHOSEN_FROM]
        step = max(1.0, len(work) / count)
        return [work[int(n * step)].id for n in range(min(count, len(work)))]


def save(table: dict[str, Any]) -> None:
    """Write the table down."""
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", "utf-8")


def load() -> dict[str, Any]:
    """The table as it is."""
    if TABLE.exists():
        return json.loads(TABLE.read_text("utf-8"))
    return {"segments": {}, "left_out": {}}


@asynccontextmanager
async def bench(folder: Path, *, model: bool) -> AsyncGenerator[Bench]:
    """Postgres, workspaces, and with `model` the local one behind the gateway."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(ThrowAwayPostgres())
        dsn = await stack.enter_async_context(postgres.database())
        pool = await stack.enter_async_context(await open_pool(dsn))
        artifacts = Artifacts(pool)
        workspaces = Workspaces(
            data_dir=folder,
            sandbox=Sandbox.detect(scratch_root=folder / "scratch"),
            artifacts=artifacts,
            uv=Path(sys.executable).with_name("uv"),
        )
        client: ModelClient | None = None
        if model:
            weights = cached_weights(Path.home() / ".cache" / "qefleet")
            if weights is None:
                sys.exit("the local model's weights are not there: `qe run … --model local` fetches them")
            port = free_port()
            server = await asyncio.create_subprocess_exec(
                *local_server.command(weights, port=port), stdout=asyncio.subprocess.DEVNULL
            )
            stack.callback(server.terminate)
            await local_server.wait_ready(f"http://127.0.0.1:{port}")
            gateway = await stack.enter_async_context(
                GatewayProcess(dsn, f"http://127.0.0.1:{port}", folder / "gateway.log")
            )
            client = ModelClient(gateway_url=gateway.url, secret=SECRET)
        yield Bench(workspaces, artifacts, pool, client, load())


async def main() -> None:
    """Fill the table, a segment of each package before the next one of any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--model", action="store_true", help="the strategies that ask the local model, too")
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, default=None, help="for environments; a new one without it")
    given = parser.parse_args()
    until = time.monotonic() + given.minutes * 60
    strategies = WITH_MODEL if given.model else WITHOUT_MODEL
    folder = given.folder or Path(mkdtemp(prefix="qe-rewards-"))
    folder.mkdir(parents=True, exist_ok=True)
    async with bench(folder, model=given.model) as running:
        prepared: dict[str, Prepared | None] = {}
        for number in range(given.segments):
            for requirement in given.packages:
                if time.monotonic() > until:
                    return
                if requirement in running.table["left_out"]:
                    continue
                if requirement not in prepared:
                    prepared[requirement] = await running.package(requirement)
                package = prepared[requirement]
                items = package.items(given.segments) if package else []
                if package and number < len(items):
                    for strategy in strategies:
                        await running.cell(package, items[number], strategy)


if __name__ == "__main__":
    asyncio.run(main())
