"""Rows for schemas, made by mimesis and checked by jsonschema and SQLite; datasets without their people.

What reads a schema or a dataset runs in the sandbox: they are the project's, and so is the module of a
Pydantic model, which the target's interpreter alone imports.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from qefleet.contracts.data import SchemaKind
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import Tool, ToolReport, read_report, run_tool
from qefleet.workspace.sandbox import Limits

MIMESIS = Tool(name="mimesis", inside="qe_rows")
SQLITE = Tool(name="sqlite", inside="qe_ddl", distribution="qefleet")
JSONSCHEMA = Tool(name="jsonschema", inside="qe_check_rows")
ANONYMIZER = Tool(name="anonymizer", inside="qe_anonymize", distribution="mimesis")
PYDANTIC = Tool(name="pydantic")

T = TypeVar("T")
_LIMITS = Limits(collect_bytes=512 << 20, file_bytes=512 << 20)
_ELSEWHERE = {"node_modules", ".git", ".venv", "venv", "site-packages", "dist", "build"}
_MOST_BYTES = 1 << 20
_MODEL = re.compile(r"[\w.]+:[\w.]+")
_TABLE = re.compile(r"(?i)\bcreate\s+table\b")


@dataclass(frozen=True)
class Schema:
    """Where rows are described."""

    path: str
    """Of the file, or `module:Model`."""
    kind: SchemaKind


@dataclass(frozen=True)
class Tables:
    """What a schema describes."""

    tables: tuple[dict[str, Any], ...]
    ddl: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """What was made."""

    content: bytes
    """As JSON, for the check."""
    tables: tuple[dict[str, Any], ...]
    fields: tuple[dict[str, str], ...]
    unread: tuple[str, ...]

    def dataset(self, table: dict[str, Any]) -> bytes:
        """A table's rows as JSON lines."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table["rows"]).encode()


@dataclass(frozen=True)
class Checked:
    """Which rows are valid."""

    tables: tuple[dict[str, Any], ...]
    references: int
    broken: int


def schema_of(path: str) -> Schema:
    """A schema as an option names it."""
    if _MODEL.fullmatch(path):
        return Schema(path, "pydantic")
    return Schema(path, "sql" if path.lower().endswith(".sql") else "json-schema")


def discover(project: Path, most: int = 5) -> list[Schema]:
    """Schema files of a project: JSON Schemas by their name or `$schema`, and SQL that creates tables."""
    found: list[Schema] = []
    for file in sorted([*project.rglob("*.json"), *project.rglob("*.sql")]):
        path = file.relative_to(project)
        if _ELSEWHERE & {*path.parts} or file.is_symlink() or not file.is_file():
            continue
        if file.stat().st_size > _MOST_BYTES:
            continue
        text = file.read_text("utf-8", "replace")
        wanted = _TABLE.search(text) if file.suffix == ".sql" else _is_schema(text)
        found += [schema_of(path.as_posix())] if wanted else []
    return found[:most]


def _is_schema(text: str) -> bool:
    if '"$schema"' not in text:
        return False
    try:
        content = json.loads(text)
    except ValueError:
        return False
    found = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    return "json-schema.org" in str(found.get("$schema")) and bool({"properties", "$defs"} & found.keys())


async def read_tables(ground: Ground, schema: Schema) -> ToolReport[Tables]:
    """What a schema describes; a tool's run only where something had to be run for it."""
    if schema.kind == "sql":
        spec = json.dumps({"path": schema.path}).encode()
        report = await _run(ground, SQLITE, {"/qe/ddl-spec.json": spec}, read=_tables, report="ddl.json")
        run = report.run.model_copy(update={"version": sqlite3.sqlite_version}) if report.run else None
        return replace(report, run=run)
    if schema.kind == "pydantic":
        return await _pydantic(ground, schema, {}, read=lambda content: _described(schema, content))
    try:
        content = _inside(ground.project, schema.path).read_bytes()
        return ToolReport(run=None, value=_described(schema, content))
    except (OSError, ValueError, TypeError) as error:
        return ToolReport(run=None, value=Tables((), unread=(str(error)[:300],)))


async def make_rows(
    ground: Ground, tables: Tables, *, rows: int, seed: int, edge_cases: bool, locale: str
) -> ToolReport[Rows]:
    """Make rows of each table; the same arguments give the same rows."""
    spec = {
        "tables": tables.tables,
        "ddl": tables.ddl,
        "rows": rows,
        "seed": seed,
        "edge_cases": edge_cases,
        "locale": locale,
    }

    def read(content: bytes) -> Rows:
        made: dict[str, Any] = json.loads(content)
        return Rows(content, tuple(made["tables"]), tuple(made["fields"]), tuple(made["unread"]))

    files = {"/qe/rows-spec.json": json.dumps(spec).encode()}
    return await _run(ground, MIMESIS, files, read=read, report="rows.json")


async def check_rows(ground: Ground, tables: Tables, rows: Rows) -> ToolReport[Checked]:
    """Check rows against their schemas, and in a real database where they are of SQL."""
    spec = {"schemas": {table["name"]: table["schema"] for table in tables.tables}, "ddl": tables.ddl}

    def read(content: bytes) -> Checked:
        checked: dict[str, Any] = json.loads(content)
        return Checked(tuple(checked["tables"]), checked["references"], checked["broken"])

    files = {"/qe/check-spec.json": json.dumps(spec).encode(), "/qe/rows.json": rows.content}
    return await _run(ground, JSONSCHEMA, files, read=read, report="checked.json")


async def check_by_model(ground: Ground, schema: Schema, rows: Rows) -> ToolReport[dict[int, str]]:
    """Which rows the Pydantic model itself refuses, and why, by their numbers."""

    def read(content: bytes) -> dict[int, str]:
        refused: dict[str, str] = json.loads(content)["refused"]
        return {int(number): str(why) for number, why in refused.items()}

    return await _pydantic(ground, schema, {"/qe/rows.json": rows.content}, read=read)


async def anonymize(
    ground: Ground, path: str, *, quasi_identifiers: Collection[str], k: int, seed: int, locale: str
) -> ToolReport[dict[str, Any]]:
    """Replace and coarsen what tells people apart in a dataset, and measure what still does."""
    spec = {
        "path": path,
        "quasi_identifiers": list(quasi_identifiers),
        "k": k,
        "seed": seed,
        "locale": locale,
    }

    def read(content: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(content)
        for name in ("rows", "k_before", "k_after", "reidentifiable", "unchanged"):
            int(found[name])
        return found

    files = {"/qe/anonymize-spec.json": json.dumps(spec).encode()}
    return await _run(ground, ANONYMIZER, files, read=read, report="anonymized.json")


async def _run(
    ground: Ground, tool: Tool, files: dict[str, bytes], *, read: Callable[[bytes], T], report: str
) -> ToolReport[T]:
    return await run_tool(ground, tool, [], read=read, report=report, files=files, limits=_LIMITS)


async def _pydantic(
    ground: Ground, schema: Schema, files: dict[str, bytes], *, read: Callable[[bytes], T]
) -> ToolReport[T]:
    outcome = await run_program(
        ground,
        "qe_pydantic",
        {"model": schema.path, "tool": PYDANTIC.name},
        files=files,
        collect=["model.json"],
        limits=replace(_LIMITS, wall_s=120.0),
    )
    return read_report(
        PYDANTIC,
        "of the target's environment",
        argv=["qe_pydantic.py", schema.path],
        finished=outcome.finished,
        content=outcome.outputs.get("model.json"),
        read=read,
        name="model.json",
    )


def _tables(content: bytes) -> Tables:
    found: dict[str, Any] = json.loads(content)
    return Tables(tuple(found["tables"]), tuple(found["ddl"]), tuple(found["unread"]))


def _described(schema: Schema, content: bytes) -> Tables:
    """A JSON Schema as a table; one that only defines others as a table for each of them."""
    loaded: Any = json.loads(content)
    if not isinstance(loaded, dict):
        raise TypeError("it is no JSON Schema")
    whole = cast("dict[str, Any]", loaded)
    word = "$defs" if "$defs" in whole else "definitions"
    if {"type", "properties", "$ref", "allOf", "anyOf", "oneOf"} & whole.keys() or word not in whole:
        name = schema.path.rpartition(":")[2].rpartition("/")[2].partition(".")[0]
        return Tables(({"name": name, "schema": whole},))
    defined: dict[str, Any] = whole[word]
    return Tables(
        tuple({"name": name, "schema": {**whole, "$ref": f"#/{word}/{name}"}} for name in sorted(defined))
    )


def _inside(project: Path, path: str) -> Path:
    file = (project / path).resolve()
    if not file.is_relative_to(project.resolve()):
        raise ValueError("it isn't in the project")
    return file
