"""`qe memory`: what agents and people remember, under keys such as `aqe/coverage/gaps`."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import NO_GO, AsJson, print_json, print_rows, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qefleet.memory.entries import Memory

app = typer.Typer(
    no_args_is_help=True,
    help="Read and write what is remembered.",
    epilog="[bold]Examples[/]\n\n"
    "qe memory search 'aqe/*'\n\n"
    "qe memory store aqe/notes/owner '\"team-a\"' --ttl 86400\n\n"
    "qe memory retrieve aqe/notes/owner --json",
)

Key = Annotated[str, typer.Argument(help="Such as aqe/coverage/gaps.")]
Partition = Annotated[str, typer.Option(help="Separate from all others.")]


@app.command(epilog="[bold]Example[/]\n\nqe memory store aqe/notes/owner '\"team-a\"'")
def store(
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON; @FILE reads it from a file.")],
    ttl: Annotated[float | None, typer.Option(help="Seconds after which it is forgotten.", min=0.001)] = None,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """Write a JSON value under a key."""
    from worker.cli.inputs import parse_json

    parsed = parse_json(value, name="VALUE")
    after = timedelta(seconds=ttl) if ttl else None
    version = _with_memory(partition, lambda memory: memory.store(key, parsed, ttl=after))
    if as_json:
        print_json({"key": key, "version": version})
    else:
        stdout().print(f"{key} version {version}")


@app.command(epilog="[bold]Example[/]\n\nqe memory retrieve aqe/coverage/gaps")
def retrieve(key: Key, partition: Partition = "default", as_json: AsJson = False) -> None:
    """Print the value under a key; exits 1 when there is none. With --json, with its version and times."""
    entry = _with_memory(partition, lambda memory: memory.retrieve(key))
    if entry is None:
        stderr().print(f"nothing under {key}; `qe memory search '*'` lists the keys")
        raise typer.Exit(NO_GO)
    print_json(entry if as_json else entry.value)


@app.command(epilog="[bold]Example[/]\n\nqe memory search 'aqe/*' --limit 20")
def search(
    glob: Annotated[str, typer.Argument(help="`*` stands for any text, `?` for one character.")] = "*",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """List entries whose key matches."""
    entries = _with_memory(partition, lambda memory: memory.search(glob, limit=limit))
    rows = [entry.model_dump(mode="json") for entry in entries]
    if not as_json:
        rows = [row | {"value": _short(row["value"]), "updated_at": row["updated_at"][:19]} for row in rows]
    columns = {"key": "key", "version": "version", "updated_at": "updated", "value": "value"}
    print_rows(rows, columns=columns, as_json=as_json, empty=f"no key matches {glob}")


@app.command(epilog="[bold]Example[/]\n\nqe memory delete aqe/notes/owner")
def delete(key: Key, partition: Partition = "default", as_json: AsJson = False) -> None:
    """Take a key away; exits 1 when there is none."""
    deleted = _with_memory(partition, lambda memory: memory.delete(key))
    if as_json:
        print_json({"key": key, "deleted": deleted})
    else:
        stdout().print(f"{key} deleted" if deleted else f"nothing under {key}")
    if not deleted:
        raise typer.Exit(NO_GO)


def _with_memory(partition: str, work: Callable[[Memory], Awaitable[Any]]) -> Any:
    from qefleet.memory.entries import Memory

    from worker.cli.database import database
    from worker.settings import Settings

    async def run() -> Any:
        async with database(Settings.load()) as pool:
            return await work(Memory(pool, partition=partition))

    return asyncio.run(run())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - a terminal's width
