"""Data for tests: the typed `details` of `test-data-architect`."""

from __future__ import annotations

from typing import Literal

from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue

SchemaKind = Literal["json-schema", "pydantic", "sql"]


class Field(Model):
    """A field of a schema, and what it was taken to hold."""

    field: str
    """Table and name, such as `users.email`."""
    type: str
    kind: str
    """Told from its name and constraints; `unknown` where nothing tells."""


class Table(Model):
    """Rows that were made of one schema, or one table of SQL."""

    name: str
    schema_path: str
    """File of the schema, or the model's name."""
    kind: SchemaKind
    rows: int
    invalid: int
    edge_cases: dict[str, int]
    """Valid rows by the limit that they are at, such as `longest`."""


class Anonymized(Model):
    """A dataset without its people, and what an attacker who has the original still finds."""

    path: str
    rows: int
    direct: list[str]
    """Columns that were replaced by pseudonyms."""
    quasi_identifiers: list[str]
    """Columns that narrow people down together."""
    levels: dict[str, int]
    """How many steps coarser each of them was made, of five."""


class DataDetails(Model):
    """The `details` of `test-data-architect`."""

    issues: list[Issue]
    """Invalid rows, the first of each table."""
    tables: list[Table]
    fields: list[Field]
    """At most 500."""
    unread: list[str]
    """Schemas and statements that could not be read, with the reason."""
    anonymized: Anonymized | None
