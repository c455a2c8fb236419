"""Rows for planted schemas, held against other validators than ours; a dataset with a planted k."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project

from qefleet.agents.test_data_architect import TEST_DATA_ARCHITECT as AGENT
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import Tool
from qefleet.tools.test_data import Rows, Schema, check_rows, read_tables
from qefleet.workspace.sandbox import Sandbox

_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "email", "age", "code", "address", "price", "born"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "email": {"type": "string", "format": "email", "maxLength": 60},
        "age": {"type": "integer", "minimum": 18, "exclusiveMaximum": 121},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}(x|y)?$"},
        "price": {"type": "number", "exclusiveMinimum": 0, "maximum": 99.5},
        "step": {"type": "number", "multipleOf": 0.05, "minimum": 0, "maximum": 5},
        "born": {"type": "string", "format": "date"},
        "nick": {"type": ["string", "null"], "minLength": 2, "maxLength": 12},
        "level": {"enum": ["low", "high", 3]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 4},
        "address": {"$ref": "#/$defs/Address"},
        "boss": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
        "odd": {"type": "integer", "not": {"multipleOf": 2}},
    },
    "$defs": {
        "Address": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "minLength": 1}, "zip": {"type": "string"}},
        },
        "Person": {
            "allOf": [{"$ref": "#/$defs/Address"}],
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "boss": {"$ref": "#/$defs/Person"}},
        },
    },
}
_DDL = """
-- a shop
CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    email VARCHAR(80) NOT NULL UNIQUE,
    full_name TEXT NOT NULL CHECK (length(full_name) > 1),
    age SMALLINT CHECK (age BETWEEN 18 AND 120),
    invited_by INTEGER REFERENCES customers(id),
    created_at TIMESTAMP NOT NULL DEFAULT now()
);
CREATE TABLE orders (
    id SERIAL PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customers,
    state VARCHAR(10) NOT NULL CHECK (state IN ('new', 'paid')),
    total DECIMAL(8, 2) NOT NULL CHECK (total >= 0),
    shipped DATE, ordered DATE NOT NULL CHECK (ordered > '1900-01-01')
);
CREATE TABLE public.lines (
    order_id bigint NOT NULL REFERENCES public.orders(id),
    position INTEGER NOT NULL CHECK (position > 0),
    PRIMARY KEY (order_id, position)
);
CREATE TABLE profiles (customer INTEGER PRIMARY KEY REFERENCES customers(id), bio TEXT);
CREATE TYPE mood AS ENUM ('sad', 'ok');
"""
_MODEL = """
from datetime import date
from pydantic import BaseModel, EmailStr, Field, field_validator


class Account(BaseModel):
    name: str = Field(min_length=1, max_length=20)
    score: int = Field(ge=0, le=100)
    since: date

    @field_validator("score")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2 and STRICT:
            raise ValueError("odd")
        return value
""".replace(", EmailStr", "")


@pytest.fixture
def at(tmp_path: Path, environment: Path, sandbox: Sandbox) -> Any:
    def ground(files: Mapping[str, str], target: Path | None = None) -> LocalGround:
        folder = tmp_path / f"project{len(list(tmp_path.iterdir()))}"
        return LocalGround(write_project(folder, files), target or environment, sandbox)

    return ground


def _kept(alone: Alone, name: str) -> bytes:
    (found,) = [ref for ref in alone.finding.artifacts if ref.name == name]
    return alone.artifacts.kept[found.digest]


def _rows(alone: Alone, table: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _kept(alone, f"{table}.jsonl").splitlines()]


@pytest.mark.soak
async def test_ten_thousand_rows_are_valid_for_another_validator(at: Any) -> None:
    """Patterns, formats, bounds, recursion, and words that the making of rows doesn't know."""
    ground = at({"user.schema.json": json.dumps(_SCHEMA)})
    alone = await measure_alone(AGENT, ground, options={"rows": 10_000})

    rows = _rows(alone, "user")
    other = jsonschema_rs.validator_for(_SCHEMA, validate_formats=True)
    assert [row for row in rows if not other.is_valid(row)] == []
    assert len(rows) == alone.value("data.rows") == alone.value("data.valid_rows") == 10_000
    assert alone.value("data.invalid_rows") == 0
    assert len({row["id"] for row in rows}) == 10_000


async def test_the_limits_of_fields_are_among_the_rows(at: Any) -> None:
    """Each edge case that is counted is really there."""
    ground = at({"user.schema.json": json.dumps(_SCHEMA)})
    alone = await measure_alone(AGENT, ground, options={"rows": 200})
    plain = await measure_alone(AGENT, ground, options={"rows": 200, "edge_cases": False})

    rows = _rows(alone, "user")
    assert {18, 120} <= {row["age"] for row in rows}
    assert {None, "a" * 2, "a" * 12} <= {row.get("nick", "") for row in rows}
    assert 99.5 in {row["price"] for row in rows}
    assert [] in [row.get("tags") for row in rows]
    assert "2000-02-29" in {row["born"] for row in rows}
    (table,) = alone.details["tables"]
    assert table["edge_cases"]["listed"] == len(_SCHEMA["properties"]["level"]["enum"])
    assert alone.value("data.edge_cases") == sum(table["edge_cases"].values())
    assert plain.value("data.edge_cases") == 0


async def test_the_same_seed_gives_the_same_rows(at: Any) -> None:
    ground = at({"user.schema.json": json.dumps(_SCHEMA), "shop.sql": _DDL})
    same = [await measure_alone(AGENT, ground, options={"rows": 20, "seed": 1}) for _ in range(2)]
    other = await measure_alone(AGENT, ground, options={"rows": 20, "seed": 2})
    for name in ("user.jsonl", "orders.jsonl"):
        assert _kept(same[0], name) == _kept(same[1], name) != _kept(other, name)


async def test_foreign_keys_hold_in_a_real_database(at: Any) -> None:
    """Also to the same table, of two columns, and where the reference is the key itself."""
    alone = await measure_alone(AGENT, at({"db/shop.sql": _DDL}), options={"rows": 2000})

    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA foreign_keys=ON")
    plain = _DDL.partition("CREATE TYPE")[0].replace("DEFAULT now()", "").replace("public.", "")
    database.executescript(plain)
    for table in ("customers", "orders", "lines", "profiles"):
        rows = _rows(alone, table)
        marks = ", ".join(f":{name}" for name in rows[0])
        database.executemany(f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({marks})", rows)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    invited = "SELECT count(*) FROM customers WHERE invited_by IS NOT NULL"
    (given,) = database.execute(invited).fetchone()
    assert 1000 < given < 2000
    assert alone.value("data.references") == given + 3 * 2000
    assert alone.value("data.broken_references") == alone.value("data.invalid_rows") == 0
    assert alone.value("data.rows") == 8000
    kinds = {found["field"]: found["kind"] for found in alone.details["fields"]}
    assert kinds["customers.full_name"] == "person"
    assert kinds["orders.customer"] == "reference to customers"
    database.close()


async def test_rows_that_break_their_schema_are_counted(at: Any) -> None:
    """Planted into rows that were fine: one too long, two that point nowhere, one key twice."""
    ground = at({"shop.sql": _DDL})
    described = (await read_tables(ground, Schema("shop.sql", "sql"))).value
    assert described
    customer = {
        "id": 1,
        "email": "a@b",
        "full_name": "Ada",
        "age": 40,
        "invited_by": None,
        "created_at": "2000-01-01T00:00:00Z",
    }
    order = {"id": 1, "customer": 1, "state": "new", "total": 1, "shipped": None, "ordered": "2000-01-01"}
    customers = [customer, {**customer, "id": 2, "email": "a" * 81}, {**customer, "email": "c@d"}]
    orders = [order, {**order, "id": 2, "customer": 9}, {**order, "id": 3, "customer": 8}]
    tables = (
        {"name": "customers", "rows": customers, "edges": []},
        {"name": "orders", "rows": orders, "edges": []},
    )
    rows = Rows(json.dumps({"tables": tables}).encode(), tables, (), ())

    checked = (await check_rows(ground, described, rows)).value

    assert checked
    assert [table["invalid"] for table in checked.tables] == [2, 2]
    assert (checked.references, checked.broken) == (3, 2)


async def test_a_pydantic_model_is_asked_itself(at: Any) -> None:
    """Its validators say more than its schema: what they refuse is counted as invalid."""
    files = {"shop/__init__.py": "", "shop/models.py": _MODEL + "\n\nSTRICT = False\n"}
    options = {"schema": "shop.models:Account", "rows": 100}
    fine = await measure_alone(AGENT, at(files, Path(sys.prefix)), options=options)
    files["shop/models.py"] = _MODEL + "\n\nSTRICT = True\n"
    strict = await measure_alone(AGENT, at(files, Path(sys.prefix)), options=options)

    assert fine.value("data.invalid_rows") == 0
    odd = sum(row["score"] % 2 for row in _rows(strict, "Account"))
    assert strict.value("data.invalid_rows") == odd > 20
    assert strict.details["issues"][0]["rule"] == "invalid-row"


async def test_a_project_without_schemas_says_so_and_fails_nothing(at: Any) -> None:
    alone = await measure_alone(AGENT, at({"a.py": "", "data.json": "{}"}))
    assert alone.finding.headline == "no schema was found: no JSON Schema and no SQL that creates tables"
    assert alone.value("data.rows") == alone.value("data.invalid_rows") == 0
    assert alone.evidence is None


async def test_a_schema_that_cannot_be_read_is_named(at: Any) -> None:
    """One that was found is left out; one that was asked for leaves the numbers unmeasured."""
    broken = '{"$schema": "https://json-schema.org/x", "properties": {"a": {"pattern": "("}}}'
    ground = at({"bad.json": broken, "bad.sql": "CREATE TABLE a (x ENUM('a','b', y);"})
    found = await measure_alone(AGENT, ground)
    asked = await measure_alone(AGENT, ground, options={"schema": "bad.sql"})
    assert found.value("data.rows") == 0
    assert [note.split(":")[1].strip() for note in found.finding.notes] == ["bad.json", "bad.sql"]
    assert asked.reason("data.rows")


_PEOPLE = [
    *({"name": f"P{n}", "age": "30", "zip": "1010", "pay": n} for n in range(60)),
    *({"name": f"Q{n}", "age": "44", "zip": "1020", "pay": n} for n in range(30)),
    {"name": "Ada", "age": "91", "zip": "9999", "pay": 5},
]


def _csv(rows: list[dict[str, Any]]) -> str:
    output = io.StringIO()
    writer = csv.DictWriter(output, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()


async def test_a_planted_k_is_found_and_people_can_no_longer_be_told_apart(at: Any) -> None:
    """Classes of 60, 30 and 1; afterwards counted again from the dataset that was given out."""
    alone = await measure_alone(AGENT, at({"people.csv": _csv(_PEOPLE)}), options={"anonymize": "people.csv"})

    assert alone.details["anonymized"]["quasi_identifiers"] == ["age", "zip"]
    assert alone.details["anonymized"]["direct"] == ["name"]
    assert alone.value("data.k_before") == alone.value("data.unique_before") == 1
    assert alone.value("data.reidentifiable_before") == 1
    given = list(csv.DictReader(io.StringIO(_kept(alone, "anonymized.csv").decode())))
    classes = Counter((row["age"], row["zip"]) for row in given)
    assert classes == {("30", "1010"): 60, ("44", "1020"): 30, ("*", "*"): 1}
    assert alone.value("data.k_after") == 30
    assert alone.value("data.suppressed_rows") == 1
    assert alone.value("data.reidentifiable_rows") == alone.value("data.unchanged_rows") == 0
    assert not {row["name"] for row in given} & {row["name"] for row in _PEOPLE}
    assert [row["pay"] for row in given] == [str(row["pay"]) for row in _PEOPLE]


async def test_what_tells_too_much_is_made_coarser_until_k_share_it(at: Any) -> None:
    """Ten ages of four people each, and k is five: two ranges of twenty."""
    rows = [{"userId": n, "age": 30 + n % 10} for n in range(40)]
    ground = at({"people.json": json.dumps(rows)})
    alone = await measure_alone(AGENT, ground, options={"anonymize": "people.json"})

    given = json.loads(_kept(alone, "anonymized.json"))
    assert Counter(row["age"] for row in given) == {"30-34": 20, "35-39": 20}
    assert sorted(row["userId"] for row in given) == list(range(1, 41))
    assert [row["userId"] for row in given] != list(range(1, 41))
    assert (alone.value("data.k_before"), alone.value("data.k_after")) == (4, 20)
    assert alone.details["anonymized"]["levels"] == {"age": 1}


async def test_a_dataset_that_is_anonymous_already_is_left_as_it_is(at: Any) -> None:
    rows = [{"age": "30", "pay": n} for n in range(8)]
    alone = await measure_alone(AGENT, at({"p.csv": _csv(rows)}), options={"anonymize": "p.csv"})
    assert _kept(alone, "anonymized.csv").decode() == _csv(rows).replace("\r\n", "\n")
    assert alone.value("data.k_before") == alone.value("data.k_after") == 8
    assert alone.value("data.suppressed_rows") == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tool", ["mimesis", "jsonschema", "sqlite", "anonymizer"])
async def test_a_broken_tool_measures_nothing(at: Any, tool: str, way: Way) -> None:
    files = {"user.schema.json": json.dumps(_SCHEMA), "shop.sql": _DDL, "people.csv": _csv(_PEOPLE)}
    options = {"anonymize": "people.csv"} if tool == "anonymizer" else {}
    alone = await measure_alone(
        AGENT, BrokenTools(at(files), tool, way), options={"rows": 1, "edge_cases": False, **options}
    )
    assert alone.reason("data.k_after" if options else "data.invalid_rows")


async def test_a_model_that_cannot_be_imported_is_not_measured(at: Any) -> None:
    """Here the target's environment has no Pydantic."""
    alone = await measure_alone(AGENT, at({"models.py": _MODEL}), options={"schema": "models:Account"})
    assert "No module named 'pydantic'" in alone.reason("data.rows")


async def test_missing_tools_say_how_to_install_them(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Tool) -> None:
        return None

    monkeypatch.setattr(Tool, "version", missing)
    alone = await measure_alone(AGENT, at({"user.schema.json": json.dumps(_SCHEMA)}))
    assert "pip install 'mimesis'" in alone.reason("data.rows")


async def test_our_own_part_takes_little_time(at: Any) -> None:
    """Less than 200 ms around each of its two tools, or 5 %; the best of three."""
    ground = at({"user.schema.json": json.dumps(_SCHEMA)})
    runs = [await measure_alone(AGENT, ground, options={"rows": 500}) for _ in range(3)]
    assert min(run.overhead_s - max(0.2 * 2, 0.05 * run.took_s) for run in runs) < 0
