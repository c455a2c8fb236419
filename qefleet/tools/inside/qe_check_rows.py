"""Which rows are valid: `/qe/check-spec.json` and `/qe/rows.json` in, `/out/checked.json` out.

Asked of jsonschema, and for tables of SQL of a real SQLite with its foreign keys on. Nothing is taken over
from what made the rows. Run with the fleet's interpreter.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any, cast

sys.modules["rfc3987_syntax"] = cast("Any", None)  # jsonschema does without; importing it takes two seconds

from jsonschema import Draft202012Validator, FormatChecker  # noqa: E402
from jsonschema.validators import validator_for  # noqa: E402

Json = dict[str, Any]
_SHOWN = 20


def main() -> None:
    """Check every row of every table."""
    spec: Json = json.loads(Path("/qe/check-spec.json").read_text("utf-8"))
    made: Json = json.loads(Path("/qe/rows.json").read_text("utf-8"))
    schemas: dict[str, Json] = spec["schemas"]
    wrong = {table["name"]: _by_schema(schemas[table["name"]], table["rows"]) for table in made["tables"]}
    references = broken = 0
    if spec["ddl"]:
        _insert(spec["ddl"], made["tables"], wrong)
        references, broken = _references(spec["ddl"], made["tables"])
    answer = {
        "tables": [
            {
                "name": table["name"],
                "rows": len(table["rows"]),
                "invalid": len(wrong[table["name"]]),
                "edges": [edge for edge in table["edges"] if edge["row"] not in wrong[table["name"]]],
                "why": dict(sorted(wrong[table["name"]].items())[:_SHOWN]),
            }
            for table in made["tables"]
        ],
        "references": references,
        "broken": broken,
    }
    Path("/out/checked.json").write_text(json.dumps(answer), "utf-8")


def _by_schema(schema: Json, rows: list[Any]) -> dict[int, str]:
    """Why a row isn't valid, by its number."""
    kind = validator_for(schema, default=Draft202012Validator)
    kind.check_schema(schema)
    validator = kind(schema, format_checker=FormatChecker())
    wrong: dict[int, str] = {}
    for number, row in enumerate(rows):
        error = next(validator.iter_errors(row), None)
        if error is not None:
            wrong[number] = f"{error.json_path}: {error.message}"[:300]
    return wrong


def _insert(ddl: list[str], tables: list[Json], wrong: dict[str, dict[int, str]]) -> None:
    connection = _database(ddl, enforced=True)
    for table in tables:
        for number, row in enumerate(table["rows"]):
            try:
                _put(connection, table["name"], row)
            except sqlite3.Error as error:
                wrong[table["name"]][number] = f"{type(error).__name__}: {error}"


def _references(ddl: list[str], tables: list[Json]) -> tuple[int, int]:
    """References that are not null, and those of them that point nowhere, among all rows as they are."""
    connection = _database(ddl, enforced=False)
    for table in tables:
        for row in table["rows"]:
            try:
                _put(connection, table["name"], row)
            except sqlite3.Error:
                continue  # counted as invalid
    references = 0
    for table in tables:
        listed = connection.execute(
            'SELECT DISTINCT id, "from" FROM pragma_foreign_key_list(?)', [table["name"]]
        )
        columns: dict[int, list[str]] = {}
        for number, column in listed.fetchall():
            columns.setdefault(number, []).append(column)
        for parts in columns.values():
            there = " AND ".join(f"{_quoted(part)} IS NOT NULL" for part in parts)
            count = f"SELECT count(*) FROM {_quoted(table['name'])} WHERE {there}"  # noqa: S608 - quoted
            references += connection.execute(count).fetchone()[0]
    return references, len(connection.execute("PRAGMA foreign_key_check").fetchall())


def _database(ddl: list[str], *, enforced: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in ddl:
        connection.execute(statement)
    connection.execute(f"PRAGMA foreign_keys={'ON' if enforced else 'OFF'}")
    return connection


def _put(connection: sqlite3.Connection, table: str, row: Json) -> None:
    columns = ", ".join(_quoted(column) for column in row)
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {_quoted(table)} ({columns}) VALUES ({marks})", list(row.values()))  # noqa: S608 - quoted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    main()
