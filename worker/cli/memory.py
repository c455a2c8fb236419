"""`qe memory`: what agents and people remember, under keys such as `aqe/coverage/gaps`."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qefleet.errors import UsageError
from worker.cli.memory_access import in_memory, in_projects, in_the_one
from worker.cli.output import NO_GO, AsJson, print_json, print_rows, stderr, stdout

if TYPE_CHECKING:
    from qefleet.memory.postgres import PostgresMemory
    from qefleet.memory.protocol import Entry

app = typer.Typer(
    no_args_is_help=True,
    help="Read and write what is remembered, of each project by itself.",
    epilog="[bold]Examples[/]\n\n"
    "qe memory search 'aqe/*'\n\n"
    "qe memory store aqe/notes/owner '\"team-a\"' --ttl 86400\n\n"
    "qe memory retrieve aqe/notes/owner --json\n\n"
    "qe memory recall 'flaky tests of the parser'",
)

Key = Annotated[str, typer.Argument(help="Such as aqe/coverage/gaps.")]
Glob = Annotated[str, typer.Argument(help="`*` stands for any text, `?` for one character.")]
Text = Annotated[str, typer.Argument(help="Words, or a sentence.")]
Partition = Annotated[str, typer.Option(help="Separate from all others.")]
Project = Annotated[str | None, typer.Option(help="Of this project; else of all that you may see.")]
OwnProject = Annotated[str, typer.Option(help="Whose it is.")]
Ttl = Annotated[float | None, typer.Option(help="Seconds after which it is forgotten.", min=0.001)]
Limit = Annotated[int, typer.Option(min=1, max=10_000)]


@app.command(epilog="[bold]Example[/]\n\nqe memory store aqe/notes/owner '\"team-a\"'")
def store(
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON; @FILE reads it from a file.")],
    ttl: Ttl = None,
    expect: Annotated[
        int | None, typer.Option(help="Write only over this version; 0: only where nothing is.", min=0)
    ] = None,
    project: OwnProject = "default",
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """Write a JSON value under a key. With --expect, exits 1 when another version is there."""
    from worker.cli.inputs import parse_json

    parsed = parse_json(value, name="VALUE")
    after = timedelta(seconds=ttl) if ttl else None

    async def work(memory: PostgresMemory) -> int | None:
        if expect is None:
            return await memory.store(key, parsed, ttl=after, partition=partition)
        return await memory.compare_and_set(
            key, parsed, expected=expect or None, ttl=after, partition=partition
        )

    _say_version(key, in_memory(project, work), as_json=as_json)


@app.command(epilog="[bold]Example[/]\n\nqe memory append aqe/notes/log '{\"seen\": 3}'")
def append(
    key: Key,
    item: Annotated[str, typer.Argument(help="JSON; @FILE reads it from a file.")],
    ttl: Ttl = None,
    project: OwnProject = "default",
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """Add an item to the list under a key."""
    from worker.cli.inputs import parse_json

    parsed = parse_json(item, name="ITEM")
    after = timedelta(seconds=ttl) if ttl else None
    version = in_memory(project, lambda memory: memory.append(key, parsed, ttl=after, partition=partition))
    _say_version(key, version, as_json=as_json)


@app.command(epilog="[bold]Example[/]\n\nqe memory retrieve aqe/coverage/gaps")
def retrieve(
    key: Key, project: Project = None, partition: Partition = "default", as_json: AsJson = False
) -> None:
    """Print the value under a key; exits 1 when there is none. With --json, with its version and times."""
    entry = in_the_one(project, key, partition, lambda memory: memory.retrieve(key, partition=partition))
    if entry is None:
        stderr().print(f"nothing under {key}; `qe memory search '*'` lists the keys")
        raise typer.Exit(NO_GO)
    print_json(entry if as_json else entry.value)


@app.command(epilog="[bold]Example[/]\n\nqe memory search 'aqe/*' --limit 20")
def search(
    glob: Glob = "*",
    limit: Limit = 100,
    project: Project = None,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """List entries whose key matches."""
    found = in_projects(project, lambda memory: memory.search(glob, partition=partition, limit=limit))
    _print_entries(
        [entry for entries in found for entry in entries], as_json=as_json, empty=f"no key matches {glob}"
    )


@app.command("list", epilog="[bold]Example[/]\n\nqe memory list aqe/coverage/")
def list_(
    prefix: Annotated[str, typer.Argument(help="How the keys begin.")] = "",
    project: Project = None,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """List keys that begin so, one a line."""
    found = in_projects(project, lambda memory: memory.list_keys(prefix, partition=partition))
    keys = sorted({key for keys in found for key in keys})
    if as_json:
        print_json(keys)
    else:
        for key in keys:
            stdout().print(key, markup=False, soft_wrap=True)


@app.command(epilog="[bold]Example[/]\n\nqe memory find 'parser timeout'")
def find(
    text: Text,
    limit: Limit = 20,
    project: Project = None,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """List entries with any of these words in their key or value, those with most of them first."""
    found = in_projects(project, lambda memory: memory.find(text, partition=partition, limit=limit))
    matches = sorted((match for matches in found for match in matches), key=lambda match: -match.score)
    _print_matches(matches[:limit], as_json=as_json)


@app.command(epilog="[bold]Example[/]\n\nqe memory recall 'tests that fail now and then' -k 3")
def recall(
    text: Text,
    k: Annotated[int, typer.Option("-k", help="How many.", min=1, max=1_000)] = 5,
    project: Project = None,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """List what is nearest to a text in meaning; by words, and saying so, where no model makes vectors."""
    found = in_projects(project, lambda memory: memory.recall(text, k, partition=partition))
    for reason in {recalled.reason for recalled in found if recalled.reason}:
        stderr().print(f"by words: {reason}", markup=False)
    if waiting := sum(recalled.without_vector for recalled in found):
        stderr().print(f"{waiting} entries have no vector yet: `qe memory embed` makes them")
    matches = sorted((m for recalled in found for m in recalled.matches), key=lambda match: -match.score)
    _print_matches(matches[:k], as_json=as_json)


@app.command(epilog="[bold]Example[/]\n\nqe memory delete aqe/notes/owner")
def delete(
    key: Key, project: Project = None, partition: Partition = "default", as_json: AsJson = False
) -> None:
    """Take a key away; exits 1 when there is none. Its history stays for a while."""
    deleted = bool(
        in_the_one(project, key, partition, lambda memory: memory.delete(key, partition=partition))
    )
    if as_json:
        print_json({"key": key, "deleted": deleted})
    else:
        stdout().print(f"{key} deleted" if deleted else f"nothing under {key}")
    if not deleted:
        raise typer.Exit(NO_GO)


@app.command(epilog="[bold]Example[/]\n\nqe memory clear scratch --project boltons")
def clear(
    partition: Annotated[str, typer.Argument(help="All of its keys go.")],
    project: OwnProject = "default",
    as_json: AsJson = False,
) -> None:
    """Take all keys of a partition away."""
    count = in_memory(project, lambda memory: memory.clear_partition(partition))
    if as_json:
        print_json({"partition": partition, "deleted": count})
    else:
        stdout().print(f"{count} deleted")


@app.command(epilog="[bold]Example[/]\n\nqe memory history aqe/coverage/gaps --json")
def history(
    key: Key,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    project: Project = None,
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """List what stood under a key before, the latest first."""
    found = in_projects(project, lambda memory: memory.history(key, partition=partition, limit=limit))
    rows = [version.model_dump(mode="json") for versions in found for version in versions]
    if not as_json:
        rows = [row | {"value": _short(row["value"]), "written_at": row["written_at"][:19]} for row in rows]
    columns = {"version": "version", "written_at": "written", "value": "value"}
    print_rows(rows, columns=columns, as_json=as_json, empty=f"nothing stood under {key} before")


@app.command(epilog="[bold]Example[/]\n\nqe memory stats")
def stats(project: Project = None, as_json: AsJson = False) -> None:
    """How much is remembered, by project and partition."""
    from qefleet.memory.protocol import Stats

    async def work(memory: PostgresMemory) -> tuple[str, Stats]:
        return memory.project, await memory.stats()

    found: list[tuple[str, Stats]] = in_projects(project, work)
    rows = [{"project": name, **counted.model_dump()} for name, counted in found]
    if not as_json:
        rows = [row | {"partitions": _short(row["partitions"])} for row in rows]
    columns = {name: name for name in ("project", "entries", "partitions", "expired", "versions")}
    print_rows(rows, columns=columns, as_json=as_json, empty="nothing is remembered")


@app.command(epilog="[bold]Example[/]\n\nqe memory watch aqe/coverage/ --project boltons")
def watch(
    prefix: Annotated[str, typer.Argument(help="How the keys begin.")] = "",
    project: OwnProject = "default",
    partition: Partition = "default",
    as_json: AsJson = False,
) -> None:
    """Print each change of a key that begins so, until Ctrl-C. With --json, one JSON object a line."""

    async def work(memory: PostgresMemory) -> None:
        async for change in memory.watch(prefix, partition=partition):
            line = change.model_dump_json() if as_json else f"{change.key} {change.version or 'gone'}"
            typer.echo(line)

    in_memory(project, work)


@app.command(epilog="[bold]Example[/]\n\nqe memory export --to memory.jsonl")
def export(
    to: Annotated[Path | None, typer.Option(help="A file; else standard output.")] = None,
    project: Project = None,
    partition: Annotated[str | None, typer.Option(help="Only this one.")] = None,
) -> None:
    """Write all entries as JSON lines."""

    async def work(memory: PostgresMemory) -> list[str]:
        # Escapes, so that each value stands there exactly: half surrogate pairs have no UTF-8.
        return [
            json.dumps(entry.model_dump(mode="json", exclude={"value"}) | {"value": entry.value})
            async for entry in memory.export(partition=partition)
        ]

    lines = [line for lines in in_projects(project, work) for line in lines]
    if to is None:
        for line in lines:
            typer.echo(line)
    else:
        to.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        stderr().print(f"{len(lines)} entries in {to}")


@app.command(
    "import",
    epilog="[bold]Examples[/]\n\nqe memory import memory.jsonl\n\n"
    "qe memory import --former postgresql://user@host/aqe --table qe_memory --time-zone Europe/Berlin",
)
def import_(
    file: Annotated[Path | None, typer.Argument(help="JSON lines, as export writes them, or a list.")] = None,
    former: Annotated[str | None, typer.Option(help="The former fleet's database.")] = None,
    table: Annotated[str, typer.Option(help="Its table.")] = "qe_memory",
    time_zone: Annotated[str, typer.Option(help="What its timestamps without a zone meant.")] = "UTC",
    plain_text: Annotated[bool, typer.Option(help="Take text that isn't JSON as a string.")] = False,
    keep_expired: Annotated[bool, typer.Option(help="Bring in what has expired too, to stay.")] = False,
    project: Annotated[str | None, typer.Option(help="Else each row's own, or `default`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring entries in, over what is there; exits 1 when rows had to be left out, and names each of them."""
    from worker.cli.memory_import import bring_in

    imported = bring_in(
        file,
        former=former,
        table=table,
        time_zone=time_zone,
        plain_text=plain_text,
        keep_expired=keep_expired,
        project=project,
    )
    if as_json:
        print_json(imported)
    else:
        for bad in imported.bad:
            stderr().print(f"left out {bad.row}: {bad.reason}", markup=False, soft_wrap=True)
        hint = "; --keep-expired brings them in" if imported.expired else ""
        stdout().print(
            f"{imported.written} written, {imported.expired} had expired{hint}, {len(imported.bad)} bad"
        )
    if imported.bad:
        raise typer.Exit(NO_GO)


@app.command(epilog="[bold]Example[/]\n\nqe memory sweep --keep-days 90")
def sweep(
    keep_days: Annotated[float, typer.Option(help="Earlier versions go after so long.", min=0)] = 30,
    limit: Annotated[int, typer.Option(help="Rows of each project at most.", min=1)] = 10_000,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Take away what has expired, and old versions. Each worker does so every hour."""
    keep = timedelta(days=keep_days)
    found = in_projects(project, lambda memory: memory.sweep(keep=keep, limit=limit))
    rows = {
        "expired": sum(swept.expired for swept in found),
        "versions": sum(swept.versions for swept in found),
        "more": any(swept.more for swept in found),
    }
    if as_json:
        print_json(rows)
    else:
        more = "; there is more" if rows["more"] else ""
        stdout().print(f"{rows['expired']} expired entries and {rows['versions']} old versions went{more}")


@app.command(epilog="[bold]Example[/]\n\nqe memory embed")
def embed(project: Project = None, partition: Partition = "default", as_json: AsJson = False) -> None:
    """Make vectors of entries that have none, for recall."""
    from qefleet.memory.ranking import NO_EMBEDDER

    async def work(memory: PostgresMemory) -> int:
        if memory.embedder is None:
            raise UsageError(NO_EMBEDDER)
        count = 0
        while made := await memory.embed(partition=partition):
            count += made
        return count

    count = sum(in_projects(project, work))
    if as_json:
        print_json({"vectors": count})
    else:
        stdout().print(f"{count} vectors made")


@app.command(epilog="[bold]Example[/]\n\nqe memory confine reporting --project boltons")
def confine(
    role: Annotated[str, typer.Argument(help="A role that the database has.")],
    project: Annotated[str, typer.Option(help="The project whose memory it may see.")],
    as_json: AsJson = False,
) -> None:
    """Let a database role see one project's memory, and nothing else of the fleet. For the tables' owner."""
    from qefleet.sql import roles
    from qefleet.sql.database import connect
    from worker.cli.database import database_url
    from worker.settings import Settings

    async def run() -> None:
        async with database_url(Settings.load()) as url:
            connection = await connect(url)
            try:
                await roles.confine(connection, role, project)
            finally:
                await connection.close()

    asyncio.run(run())
    if as_json:
        print_json({"role": role, "project": project})
    else:
        stdout().print(f"{role} sees the memory of {project}")


def _say_version(key: str, version: int | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"key": key, "version": version})
    else:
        stdout().print(f"{key} version {version}" if version else f"{key} has another version by now")
    if version is None:
        raise typer.Exit(NO_GO)


def _print_entries(entries: list[Entry], *, as_json: bool, empty: str) -> None:
    rows = [entry.model_dump(mode="json") for entry in entries]
    if not as_json:
        rows = [row | {"value": _short(row["value"]), "updated_at": row["updated_at"][:19]} for row in rows]
    columns = {
        "project": "project",
        "key": "key",
        "version": "version",
        "updated_at": "updated",
        "value": "value",
    }
    print_rows(rows, columns=columns, as_json=as_json, empty=empty)


def _print_matches(matches: list[Any], *, as_json: bool) -> None:
    rows = [match.entry.model_dump(mode="json") | {"score": match.score} for match in matches]
    if not as_json:
        rows = [row | {"value": _short(row["value"])} for row in rows]
    columns = {"score": "score", "project": "project", "key": "key", "value": "value"}
    print_rows(rows, columns=columns, as_json=as_json, empty="nothing found")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    return text if len(text) <= 80 else text[:79] + "…"  # noqa: PLR2004 - a terminal's width
