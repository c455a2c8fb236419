"""Rows for an import: from a file, or from the table that the former fleet kept its memory in.

That fleet shipped no SQL, so tables differ: `key` and `value` must be there (JSON, or text that holds JSON);
`partition`, `created_at` and `expires_at` are read where they are. Its timestamps had no time zone.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, cast

import asyncpg

from qefleet.errors import UsageError
from qefleet.memory.protocol import PARTITION, Unusable
from qefleet.sql.database import connect

TABLE = "qe_memory"

Row = Mapping[str, Any] | Unusable
_COLUMNS = ("key", "value", "partition", "created_at", "expires_at")
_REQUIRED = ("key", "value")


async def read_table(
    dsn: str, *, table: str = TABLE, zone: tzinfo = UTC, plain_text: bool = False, keep_expired: bool = False
) -> AsyncIterator[Row]:
    """Rows of a former fleet's table, by key.

    Args:
        dsn: The database; it is only read.
        table: The table's name, with its schema where it isn't on the search path.
        zone: What timestamps without a time zone meant.
        plain_text: Take text that isn't JSON as a string.
        keep_expired: Give what has expired too, without its time of expiry.

    Raises:
        UsageError: There is no such table, or it lacks a column.
        StoreUnavailable: The database can't be reached.
    """
    connection = await connect(dsn)
    try:
        found = await connection.fetchval("SELECT to_regclass($1)::oid", table)
        if found is None:
            raise UsageError(f"that database has no table {table}; --table names another")
        rows = await connection.fetch(
            "SELECT attname AS name, format('%I', attname) AS quoted FROM pg_attribute "
            "WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
            found,
        )
        columns = {row["name"]: row["quoted"] for row in rows}
        if missing := [name for name in _REQUIRED if name not in columns]:
            raise UsageError(f"{table} has no column {' and no column '.join(missing)}")
        quoted = [columns[name] for name in _COLUMNS if name in columns]
        read = [f"{name}::text" if name == columns["value"] else name for name in quoted]
        name = await connection.fetchval("SELECT $1::oid::regclass::text", found)
        # The names are Postgres' own, quoted by it.
        statement = f"SELECT {', '.join(read)} FROM {name} ORDER BY {columns['key']}"  # noqa: S608
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(statement):
                yield _row(row, zone=zone, plain_text=plain_text, keep_expired=keep_expired)
    finally:
        await connection.close()


def read_file(path: Path, *, keep_expired: bool = False) -> Iterator[Any]:
    """Rows of a file: JSON lines as `qe memory export` writes them, one JSON list, or an object by key.

    Raises:
        UsageError: It can't be read, or is no JSON at all.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    for row in _rows(path, text):
        yield (
            _without_expiry(cast("Mapping[str, Any]", row))
            if keep_expired and isinstance(row, Mapping)
            else row
        )


def _rows(path: Path, text: str) -> list[Any]:
    try:
        whole: Any = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        rows = [_line(line) for line in lines]
        if not any(isinstance(row, Mapping) for row in rows):
            raise UsageError(f"{path} has no JSON in it") from None
        return rows
    if isinstance(whole, list):
        return cast("list[Any]", whole)
    if isinstance(whole, Mapping) and not {"key", "value"} <= whole.keys():
        by_key = cast("Mapping[str, Any]", whole)
        return [
            {**row, "key": key} if _is_row(row) else {"key": key, "value": row} for key, row in by_key.items()
        ]
    return [whole]


def _line(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        return Unusable(key=None, reason=f"not JSON: {error}")


def _is_row(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and "value" in value and value.keys() <= {*_COLUMNS, "ttl", "updated_at"}
    )


def _row(row: asyncpg.Record, *, zone: tzinfo, plain_text: bool, keep_expired: bool) -> Row:
    found = dict(row)
    try:
        value = _value(found["value"], plain_text=plain_text)
    except ValueError as error:
        return Unusable(key=found["key"], reason=str(error))
    record = {
        "key": found["key"],
        "value": value,
        "partition": found.get("partition") or PARTITION,
        "created_at": _aware(found.get("created_at"), zone),
        "expires_at": _aware(found.get("expires_at"), zone),
    }
    return _without_expiry(record) if keep_expired else record


def _value(text: str | None, *, plain_text: bool) -> Any:
    if text is None:
        raise ValueError("the column is NULL")
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        if plain_text:
            return text
        raise ValueError(f"{error}; --plain-text takes it as a string") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"JSON has no {constant}")


def _aware(time: Any, zone: tzinfo) -> Any:
    return time.replace(tzinfo=zone) if isinstance(time, datetime) and time.tzinfo is None else time


def _without_expiry(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row, to stay for good when its time is over."""
    expires: Any = row.get("expires_at")
    if isinstance(expires, str):
        try:
            expires = datetime.fromisoformat(expires)
        except ValueError:
            return row
    over = isinstance(expires, datetime) and expires.tzinfo is not None and expires <= datetime.now(UTC)
    return {**row, "expires_at": None} if over else row
