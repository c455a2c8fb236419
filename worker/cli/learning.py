"""`qe learning`: what was tried, how it was rewarded, what was learnt, and why a choice was made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from worker.cli.output import AsJson, print_json, print_rows, stdout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

_SUMMARY = {
    "agent": "agent",
    "trajectories": "tried",
    "rewarded": "rewarded",
    "mean_reward": "mean reward",
    "learnt_values": "learnt values",
    "patterns": "patterns",
}
_LATEST = {"recorded_at": "when", "step": "step", "action": "action", "reward": "reward", "state": "state"}
_WINDOW = 20


class _Group(TyperGroup):
    """An agent's name stands for `agent NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["agent", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Group,
    invoke_without_command=True,
    help="Show what the fleet has recorded to learn from.",
    epilog="[bold]Examples[/]\n\n"
    "qe learning\n\n"
    "qe learning test-generator --limit 5\n\n"
    "qe learning show qe-boltons-1a2b3c/test-generator#0\n\n"
    "qe learning plot --output learning.svg\n\n"
    "qe learning export learnt.json",
)

File = Annotated[Path, typer.Argument(help="JSON with values and patterns.")]


@app.callback()
def learning(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what the fleet has recorded to learn from, a line an agent."""
    if ctx.invoked_subcommand is None:
        rows = _with_pool(lambda pool: _fetch(pool, "learning_by_agent"))
        print_rows(rows, columns=_SUMMARY, as_json=as_json, empty="nothing was tried yet")


@app.command(epilog="[bold]Example[/]\n\nqe learning test-generator --limit 5")
def agent(
    name: Annotated[str, typer.Argument(help="The agent's id.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List an agent's latest trajectories."""
    rows = _with_pool(lambda pool: _fetch(pool, "trajectories_of", name, limit))
    print_rows(rows, columns=_LATEST, as_json=as_json, empty="nothing was tried yet")


@app.command(epilog="[bold]Example[/]\n\nqe learning show qe-boltons-1a2b3c/test-generator#0")
def show(
    where: Annotated[
        str, typer.Argument(metavar="RUN[/STEP]", help="A workflow id or run id, and a step of it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Tell what was chosen in a run, why, and what came of it."""
    from qefleet.errors import UsageError

    run, _, step = where.partition("/")
    rows = _with_pool(lambda pool: _fetch(pool, "choices_of_step", run, step))
    if not rows:
        raise UsageError(
            f"nothing was chosen in {where}: `qe report` lists the runs; --policy lets them learn"
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        stdout().print(explain_choice(row), markup=False)


@app.command(epilog="[bold]Examples[/]\n\nqe learning plot\n\nqe learning plot --output learning.svg")
def plot(
    name: Annotated[str | None, typer.Argument(metavar="AGENT", help="All agents without it.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="An SVG file; text without it.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw how rewards went as more was learnt."""
    from qefleet.learning.curve import moving_mean, svg_curve, text_curve

    rows = _with_pool(lambda pool: _fetch(pool, "rewards_in_order", name or ""))
    rewards = [row["reward"] for row in rows]
    curve = moving_mean(rewards, _WINDOW)
    if as_json:
        print_json([row | {"mean_reward": value} for row, value in zip(rows, curve, strict=True)])
    elif not rewards:
        stdout().print("nothing was rewarded yet")
    else:
        last = f"{len(rewards)} rewards, mean of the last {min(_WINDOW, len(rewards))}: {curve[-1]:.3f}"
        stdout().print(f"{text_curve(rewards)}\n{last}")
    if output and rewards:
        title = f"Rewards of {name or 'all agents'}, mean of {_WINDOW}"
        output.write_text(svg_curve({"chosen": curve}, title=title, x="rewards"), "utf-8")


@app.command("export", epilog="[bold]Example[/]\n\nqe learning export learnt.json")
def export(file: File) -> None:
    """Write values and patterns into a file, for another database."""
    from qefleet.learning.store import LearningStore

    learnt = _with_pool(lambda pool: LearningStore(pool).export())
    file.write_text(learnt.model_dump_json(indent=2) + "\n", "utf-8")
    stdout().print(f"{len(learnt.q_values)} values and {len(learnt.patterns)} patterns")


@app.command("import", epilog="[bold]Example[/]\n\nqe learning import learnt.json")
def import_(file: File) -> None:
    """Take over values that have more rewards than ours, and patterns that we don't have.

    Patterns are shown to models that write tests for the project of the same name: import what you trust.
    """
    from pydantic import ValidationError

    from qefleet.errors import UsageError
    from qefleet.learning.store import LearningStore, Learnt

    try:
        learnt = Learnt.model_validate(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError) as error:
        why = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise UsageError(f"FILE: {file} is nothing that `qe learning export` has written: {why}") from None
    _with_pool(lambda pool: LearningStore(pool).import_(learnt))
    stdout().print(f"{len(learnt.q_values)} values and {len(learnt.patterns)} patterns")


def explain_choice(row: dict[str, Any]) -> str:
    """A choice in words: the state, the alternatives, why this one, and what came of it."""
    known = ", ".join(
        f"{_bare(a['action'])} {a['value']:.3f} ({a['visits']} rewards here)" for a in row["alternatives"]
    )
    why = {
        "fixed": f"the policy is {row['policy']}",
        "explored": f"left to chance, as {row['epsilon']:.1%} of choices are after "
        f"{row['rewards_before']} rewards",
        "untried": "it promises most, and was never tried in this state",
        "best": "it has the highest value in this state",
    }[row["reason"]]
    what = row["decision"].replace("depth/", "round ")
    lines = [
        f"{row['step']} {row['item']}".strip() + f", {what}: {_bare(row['action'])}",
        f"  state: {row['state_key']}",
        f"  known: {known}",
        f"  why: {why}",
    ]
    if row["recalled"]:
        lines.append(f"  recalled: {len(row['recalled'])} kept tests of the project")
    if row["reward"] is None:
        lines.append("  reward: none yet, or what failed told nothing of it")
    elif row["action"] != "stop":
        lines.append(f"  reward: {row['reward']:.3f}{_counted(row['gains'])}")
        lines.append(f"  value: {row['value_before']:.3f} -> {row['value_after']:.3f}")
    return "\n".join(lines)


def _bare(action: str) -> str:
    return action.rpartition(":")[2]


def _counted(gains: dict[str, Any] | None) -> str:
    """What a reward is made of, where it is an item's own."""
    if gains is None:
        return ""
    counted = (
        f"{gains['kept']} of {gains['proposed']} kept",
        f"{gains['gained']} lines and branches gained",
        f"{gains['mutants_killed']} of {gains['mutants_tried']} mutants killed",
        f"{gains['processes']} processes, {gains['output_tokens']} tokens",
    )
    return f" ({', '.join(counted)})"


async def _fetch(pool: asyncpg.Pool, name: str, *values: object) -> list[dict[str, Any]]:
    from worker.cli.database import sql

    return [dict(row) for row in await pool.fetch(sql(name), *values)]


def _with_pool(work: Callable[[asyncpg.Pool], Awaitable[Any]]) -> Any:
    from worker.cli.database import database
    from worker.settings import Settings

    async def run() -> Any:
        async with database(Settings.load()) as pool:
            return await work(pool)

    return asyncio.run(run())
