"""`qe memory import`: from a file, or from the former fleet's table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from qefleet.errors import UsageError
from worker.cli.memory_access import in_memory

if TYPE_CHECKING:
    from qefleet.memory.protocol import Imported


def bring_in(
    file: Path | None,
    *,
    former: str | None,
    table: str,
    time_zone: str,
    plain_text: bool,
    keep_expired: bool,
    project: str | None,
) -> Imported:
    """Do the import that was asked for.

    Raises:
        UsageError: There must be one source, and one that can be read.
    """
    from qefleet.memory.former import read_file, read_table
    from qefleet.memory.protocol import PROJECT, Imported

    if (file is None) == (former is None):
        raise UsageError("import takes either a FILE, or --former with the former fleet's database URL")
    if former is not None:
        zone = _zone(time_zone)
        rows: AsyncIterator[Any] = read_table(
            former, table=table, zone=zone, plain_text=plain_text, keep_expired=keep_expired
        )
        return in_memory(project or PROJECT, lambda memory: memory.import_(rows))
    assert file is not None
    by_project: dict[str, list[Any]] = {}
    for row in read_file(file, keep_expired=keep_expired):
        by_project.setdefault(project or _project(row) or PROJECT, []).append(row)
    done = [
        in_memory(name, lambda memory, found=found: memory.import_(found))
        for name, found in by_project.items()
    ]
    return Imported(
        written=sum(part.written for part in done),
        expired=sum(part.expired for part in done),
        bad=[bad for part in done for bad in part.bad],
    )


def _project(row: Any) -> str | None:
    named = cast("Mapping[str, Any]", row).get("project") if isinstance(row, Mapping) else None
    return named if isinstance(named, str) and named else None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"--time-zone: {name} is no time zone, such as Europe/Berlin") from error
