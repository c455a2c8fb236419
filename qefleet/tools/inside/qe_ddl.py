"""Tables of a file of SQL, as SQLite understands them: `/qe/ddl-spec.json` in, `/out/ddl.json` out.

A real parser reads the statements; what tables, keys and references they make is asked of it. Statements that
it can't read are listed. Run with the fleet's interpreter.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_TYPES: tuple[tuple[str, Json], ...] = (
    (r"BOOL", {"type": "boolean"}),
    (r"SMALLINT|INT2", {"type": "integer", "minimum": -32768, "maximum": 32767}),
    (r"INT|SERIAL", {"type": "integer", "minimum": -2147483648, "maximum": 2147483647}),
    (r"UUID", {"type": "string", "format": "uuid"}),
    (r"TIMESTAMP|DATETIME", {"type": "string", "format": "date-time"}),
    (r"DATE", {"type": "string", "format": "date"}),
    (r"TIME", {"type": "string", "format": "time"}),
    (r"REAL|FLOA|DOUB|NUMERIC|DECIMAL|MONEY", {"type": "number"}),
    (r"JSON", {"type": "string", "enum": ["{}", "[]"]}),
)
_LENGTH = re.compile(r"CHAR\w*(?:\s+VARYING)?\s*\(\s*(\d+)\s*\)", re.IGNORECASE)
_DIGITS = re.compile(r"(?:NUMERIC|DECIMAL)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", re.IGNORECASE)
_IN = r"""["`]?\b{name}\b["`]?\s+IN\s*\(([^()]*)\)"""
_BETWEEN = r"""["`]?\b{name}\b["`]?\s+BETWEEN\s+(-?[\d.]+)\s+AND\s+(-?[\d.]+)"""
_COMPARED = r"""["`]?\b{name}\b["`]?\s*(>=|<=|>|<)\s*(-?[\d.]+)"""
_WORDS = {">=": "minimum", "<=": "maximum", ">": "exclusiveMinimum", "<": "exclusiveMaximum"}
_ELSEWHERE = (  # what other databases say for the same
    (re.compile(r"(?i)\bDEFAULT\s+[a-z_]\w*\s*\([^()]*\)"), ""),
    (re.compile(r"(?i)\bGENERATED\s+(ALWAYS|BY\s+DEFAULT)\s+AS\s+IDENTITY(\s*\([^()]*\))?"), ""),
    (re.compile(r"(?i)\bAUTO_INCREMENT\b"), ""),
    (re.compile(r"(?i)[\"`]?\b(public|dbo)\b[\"`]?\."), ""),
    (re.compile(r"(?i)'::\w+(\s+varying)?"), "'"),
)


def main() -> None:
    """Read the statements, and describe the tables, those that are referred to first."""
    spec: Json = json.loads(Path("/qe/ddl-spec.json").read_text("utf-8"))
    connection = sqlite3.connect(":memory:")
    kept: list[str] = []
    unread: list[str] = []
    for statement in _statements(Path(spec["path"]).read_text("utf-8")):
        if not re.match(r"(?is)\s*CREATE\s+(TABLE|UNIQUE\s+INDEX)\b", statement):
            continue
        try:
            connection.execute(statement)
            kept.append(statement)
        except sqlite3.Error as error:
            unread.append(f"{' '.join(statement.split())[:60]}: {error}")
    tables = {name: _table(connection, name, sql) for name, sql in _names(connection)}
    answer = {"tables": list(_ordered(tables)), "ddl": kept, "unread": unread}
    Path("/out/ddl.json").write_text(json.dumps(answer), "utf-8")


def _statements(text: str) -> Iterator[str]:
    text = re.sub(r"(?m)--.*$", "", re.sub(r"(?s)/\*.*?\*/", "", text))
    statement = ""
    for part in re.split(r"(;)", text):
        statement += part
        if part == ";" and sqlite3.complete_statement(statement):
            for pattern, instead in _ELSEWHERE:
                statement = pattern.sub(instead, statement)
            yield statement.strip()
            statement = ""
    if statement.strip():
        yield statement.strip()


def _names(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    found = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    )
    return connection.execute(found).fetchall()


def _table(connection: sqlite3.Connection, name: str, sql: str) -> Json:
    columns = connection.execute(
        'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', [name]
    ).fetchall()
    key = [column for column, _, _, place in sorted(columns, key=lambda row: row[3]) if place]
    schemas = {column: _column(column, kind, sql) for column, kind, _, _ in columns}
    for column, _, needed, place in columns:
        if not needed and not place:
            schemas[column] = {**schemas[column], "type": [schemas[column]["type"], "null"]}
            if "enum" in schemas[column]:
                schemas[column]["enum"] = [*schemas[column]["enum"], None]
    return {
        "name": name,
        "schema": {"type": "object", "properties": schemas, "required": list(schemas)},
        "unique": [*([key] if key else []), *_unique(connection, name, key)],
        "references": _references(connection, name),
    }


def _column(name: str, declared: str, sql: str) -> Json:
    """A column's type and what its checks ask, as far as they are as simple as most are."""
    upper = declared.upper()
    schema: Json = dict(next((found for word, found in _TYPES if re.search(word, upper)), {"type": "string"}))
    if length := _LENGTH.search(declared):
        schema["maxLength"] = int(length[1])
    if digits := _DIGITS.search(declared):
        whole = int(digits[1]) - int(digits[2] or 0)
        schema |= {"minimum": -(10**whole) + 1, "maximum": 10**whole - 1}
    escaped = re.escape(name)
    if listed := re.search(_IN.format(name=escaped), sql, re.IGNORECASE):
        texts = re.findall(r"'((?:[^']|'')*)'", listed[1])
        numbers = [json.loads(part) for part in re.findall(r"-?\d+(?:\.\d+)?", listed[1])]
        schema["enum"] = [text.replace("''", "'") for text in texts] or numbers
    if between := re.search(_BETWEEN.format(name=escaped), sql, re.IGNORECASE):
        schema |= {"minimum": json.loads(between[1]), "maximum": json.loads(between[2])}
    if schema["type"] in {"integer", "number"}:
        for sign, number in re.findall(_COMPARED.format(name=escaped), sql):
            schema[_WORDS[sign]] = json.loads(number)
    return schema


def _unique(connection: sqlite3.Connection, name: str, key: list[str]) -> list[list[str]]:
    found: list[list[str]] = []
    indexes = connection.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique" ORDER BY seq DESC', [name]
    )
    for (index,) in indexes.fetchall():
        rows = connection.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", [index]).fetchall()
        columns = [column for (column,) in rows]
        if columns != key and None not in columns and columns not in found:
            found.append(columns)
    return found


def _references(connection: sqlite3.Connection, name: str) -> list[Json]:
    rows = connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', [name]
    ).fetchall()
    found: dict[int, Json] = {}
    for number, table, column, to in rows:
        reference = found.setdefault(number, {"table": table, "columns": [], "to": []})
        reference["columns"].append(column)
        reference["to"].append(to)
    for reference in found.values():
        if None in reference["to"]:
            keys = connection.execute(
                "SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", [reference["table"]]
            )
            reference["to"] = [key for (key,) in keys.fetchall()]
    return [found[number] for number in sorted(found, reverse=True)]


def _ordered(tables: dict[str, Json]) -> Iterator[Json]:
    """Tables after those that they refer to, as far as they don't refer to each other."""
    names = {name.lower(): name for name in tables}
    left = dict(tables)
    for table in tables.values():
        for reference in table["references"]:
            reference["table"] = names.get(reference["table"].lower(), reference["table"])
    while left:
        ready = [
            name
            for name, table in left.items()
            if not any(r["table"] in left and r["table"] != name for r in table["references"])
        ]
        for name in ready or [next(iter(left))]:
            yield left.pop(name)


if __name__ == "__main__":
    main()
