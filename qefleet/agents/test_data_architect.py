"""test-data-architect: rows for schemas, made and checked, and datasets without their people.

A model says what fields mean that no name tells.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic import Field as Bounds

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import is_about
from qefleet.contracts.base import Model
from qefleet.contracts.data import Anonymized, DataDetails, Field, Table
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.items import Item
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground
from qefleet.tools.program import Tool, ToolReport
from qefleet.tools.test_data import (
    ANONYMIZER,
    JSONSCHEMA,
    MIMESIS,
    SQLITE,
    Checked,
    Rows,
    Schema,
    anonymize,
    check_by_model,
    check_rows,
    discover,
    make_rows,
    read_tables,
    schema_of,
)

_FIELDS = 500
_JUDGED = 40
_SEARCH = Tool(name="search for schemas", distribution="qefleet")
_COUNTS = {
    "schemas": "schemas",
    "tables": "tables",
    "rows": "rows",
    "valid_rows": "rows",
    "invalid_rows": "rows",
    "edge_cases": "rows",
    "references": "references",
    "broken_references": "references",
}
_OF_PEOPLE = {
    "anonymized_rows": ("rows", "rows"),
    "k_before": ("k_before", "rows"),
    "k_after": ("k_after", "rows"),
    "unique_before": ("unique_before", "rows"),
    "unique_after": ("unique_after", "rows"),
    "suppressed_rows": ("suppressed", "rows"),
    "reidentifiable_before": ("reidentifiable_before", "rows"),
    "reidentifiable_rows": ("reidentifiable", "rows"),
    "unchanged_rows": ("unchanged", "rows"),
}

_Path = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class TestDataArchitectOptions(Model):
    """What to make rows of, and how; and which dataset to take the people out of."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, serialize_by_alias=True)

    schema_: Annotated[_Path | None, Bounds(alias="schema")] = None
    """File of a JSON Schema or of SQL in the project, or `module:Model` of Pydantic; without it, all schemas
    that are found."""
    rows: Annotated[int, Bounds(ge=1, le=100_000)] = 1000
    """Of each table."""
    seed: int = 0
    edge_cases: bool = True
    """Begin with rows at the limits of their fields."""
    locale: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]{2,3})?$")] = "en"
    anonymize: _Path | None = None
    """CSV, JSON or JSON lines in the project."""
    quasi_identifiers: Annotated[list[str], Bounds(max_length=50)] = []
    """Columns that narrow people down together; guessed by their names without it."""
    k: Annotated[int, Bounds(ge=2, le=1000)] = 5
    """How many rows each combination of quasi-identifiers is to be shared by."""


class FieldMeaning(BaseModel):
    """What one field holds."""

    field: Citation
    holds: str
    why: str


class Relation(BaseModel):
    """A rule between fields that no schema says."""

    fields: list[Citation]
    rule: str


class DataJudgement(BaseModel):
    """The model's part: the meaning of fields."""

    meanings: list[FieldMeaning]
    relations: list[Relation]


@dataclass
class _Made:
    """What the tools gave so far."""

    tools: list[ToolRun] = field(default_factory=list[ToolRun])
    files: list[tuple[ArtifactRef, bytes]] = field(default_factory=list[tuple[ArtifactRef, bytes]])
    tables: list[Table] = field(default_factory=list[Table])
    fields: list[Field] = field(default_factory=list[Field])
    issues: list[Issue] = field(default_factory=list[Issue])
    unread: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    reasons: list[str] = field(default_factory=list[str])
    """Why numbers are missing."""
    anonymized: Anonymized | None = None

    def add(self, report: ToolReport[Any]) -> int:
        """Keep a tool's run; the index of the latest."""
        self.tools += [report.run] if report.run else []
        self.files += report.artifacts
        if report.value is None:
            self.reasons.append(report.reason)
        return len(self.tools) - 1


async def _measure(ctx: StepContext) -> Finding:
    options: TestDataArchitectOptions = ctx.options
    made = _Made()
    metrics: dict[str, Metric] = {}
    async with ctx.workspace() as workspace:
        schemas = await _schemas(ctx, workspace, made)
        for schema in schemas:
            await _rows(options, workspace, schema, made)
        metrics |= _counted(made, len(schemas))
        if options.anonymize:
            metrics |= await _without_people(options, options.anonymize, workspace, made)
    details = DataDetails(
        issues=numbered(made.issues),
        tables=made.tables,
        fields=made.fields[:_FIELDS],
        unread=made.unread,
        anonymized=made.anonymized,
    )
    evidence = [found.model_dump(mode="json") for found in made.fields[:_JUDGED]]
    items = [Item(id=schema.path, paths=[schema.path]) for schema in schemas if schema.kind != "pydantic"]
    return Finding(
        measurement=Measurement(metrics=metrics, tools=made.tools, details=details.model_dump(mode="json")),
        headline=_headline(made, len(schemas)),
        artifacts=await keep_all(ctx.artifacts, made.files),
        notes=[f"not read: {reason}" for reason in made.unread],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
        items=None if ctx.item else await ctx.keep_items(items),
    )


async def _schemas(ctx: StepContext, ground: Ground, made: _Made) -> list[Schema]:
    """That of the options, or those that are in the project."""
    options: TestDataArchitectOptions = ctx.options
    if options.schema_:
        return [schema_of(options.schema_)]
    found = [] if options.anonymize else await asyncio.to_thread(discover, ground.project)
    found = [schema for schema in found if is_about(ctx.item, schema.path)]
    version = _SEARCH.version() or "unknown"
    searched = ToolRun(tool=_SEARCH.name, version=version, argv=["discover"], exit_code=0, duration_s=0.0)
    made.tools.append(searched)
    return found


async def _rows(options: TestDataArchitectOptions, ground: Ground, schema: Schema, made: _Made) -> None:
    """Make the rows of one schema, and have them checked."""
    described = await read_tables(ground, schema)
    made.add(described)
    if described.value is None:
        return
    made.unread += [f"{schema.path}: {reason}" for reason in described.value.unread]
    if not described.value.tables:
        if options.schema_:
            made.reasons.append("; ".join(made.unread) or f"{schema.path} describes no table")
        return
    rows = await make_rows(
        ground,
        described.value,
        rows=options.rows,
        seed=options.seed,
        edge_cases=options.edge_cases,
        locale=options.locale,
    )
    made.add(rows)
    if rows.value is None:
        return
    made.unread += [f"{schema.path}: {reason}" for reason in rows.value.unread]
    made.fields += [Field.model_validate(found) for found in rows.value.fields]
    checked = await check_rows(ground, described.value, rows.value)
    made.add(checked)
    if checked.value is None:
        return
    refused: dict[int, str] = {}
    if schema.kind == "pydantic":
        by_model = await check_by_model(ground, schema, rows.value)
        made.add(by_model)
        if by_model.value is None:
            return
        refused = by_model.value
    if options.schema_ and not rows.value.tables:
        made.reasons.append("; ".join(made.unread))
    _keep(schema, rows.value, checked.value, refused, made)


def _keep(schema: Schema, rows: Rows, checked: Checked, refused: dict[int, str], made: _Made) -> None:
    """The counts of a schema's tables, their invalid rows, and the rows themselves."""
    made.counts["references"] += checked.references
    made.counts["broken_references"] += checked.broken
    for table, found in zip(rows.tables, checked.tables, strict=True):
        why: dict[int, str] = {int(number): text for number, text in found["why"].items()}
        invalid = found["invalid"] + len(refused.keys() - why.keys())
        edges = Counter(edge["case"] for edge in found["edges"] if edge["row"] not in refused)
        made.tables.append(
            Table(
                name=found["name"],
                schema_path=schema.path,
                kind=schema.kind,
                rows=found["rows"],
                invalid=invalid,
                edge_cases=dict(sorted(edges.items())),
            )
        )
        made.counts.update(
            rows=found["rows"],
            invalid_rows=invalid,
            valid_rows=found["rows"] - invalid,
            edge_cases=edges.total(),
        )
        made.issues += _invalid(schema, found["name"], {**refused, **why})
        content = rows.dataset(table)
        name = f"{found['name']}.jsonl"
        made.files.append((reference(content, name=name, media_type="application/x-ndjson"), content))


def _invalid(schema: Schema, table: str, why: dict[int, str]) -> list[Issue]:
    return [
        Issue(
            id=f"invalid-row@{table}",
            tool=JSONSCHEMA.name,
            rule="invalid-row",
            severity="medium",
            message=f"{table}, row {number + 1}: {text}",
            path=None if schema.kind == "pydantic" else schema.path,
        )
        for number, text in sorted(why.items())[:5]
    ]


def _counted(made: _Made, schemas: int) -> dict[str, Metric]:
    """All counts; none of them where one schema's are missing."""
    if made.reasons:
        reason = "; ".join(made.reasons)
        return {f"data.{name}": Unmeasured(reason=reason) for name in _COUNTS}
    counts = {**dict.fromkeys(_COUNTS, 0), **made.counts, "schemas": schemas, "tables": len(made.tables)}
    last = len(made.tools) - 1
    return {
        f"data.{name}": Measured(value=counts[name], unit=unit, tool=last)
        for name, unit in _COUNTS.items()
        if last >= 0
    }


async def _without_people(
    options: TestDataArchitectOptions, path: str, ground: Ground, made: _Made
) -> dict[str, Metric]:
    """The dataset without its people, and what is still found of them."""
    report = await anonymize(
        ground,
        path,
        quasi_identifiers=options.quasi_identifiers,
        k=options.k,
        seed=options.seed,
        locale=options.locale,
    )
    tool = made.add(report)
    found = report.value
    if found is None:
        return {f"data.{name}": Unmeasured(reason=report.reason) for name in _OF_PEOPLE}
    made.anonymized = Anonymized(
        path=path,
        rows=found["rows"],
        direct=found["direct"],
        quasi_identifiers=found["quasi_identifiers"],
        levels=found["levels"],
    )
    content = str(found["dataset"]).encode()
    ending = path.rpartition(".")[2]
    kept = reference(content, name=f"anonymized.{ending}", media_type="text/plain")
    made.files.append((kept, content))
    return {
        f"data.{name}": Measured(value=found[key], unit=unit, tool=tool)
        for name, (key, unit) in _OF_PEOPLE.items()
    }


def _headline(made: _Made, schemas: int) -> str:
    said: Sequence[str] = []
    if made.reasons:
        said = ["rows were not made or not checked"]
    elif made.tables:
        rows, valid = made.counts["rows"], made.counts["valid_rows"]
        said = [f"{valid} of {rows} rows in {len(made.tables)} tables are valid"]
        said += [f"{made.counts['edge_cases']} edge cases"]
    elif not schemas and not made.anonymized:
        said = ["no schema was found: no JSON Schema and no SQL that creates tables"]
    if made.anonymized:
        said = [*said, f"{made.anonymized.rows} rows of {made.anonymized.path} without their people"]
    return ", ".join(said)


TEST_DATA_ARCHITECT = Agent(
    id="test-data-architect",
    title="test-data-architect",
    purpose="Makes rows for JSON Schema, Pydantic and SQL, and checks them; anonymises, and checks that.",
    tier="moderate",
    tools=(MIMESIS, JSONSCHEMA, SQLITE, ANONYMIZER),
    measures=(
        Measure("data.schemas", "schemas", additive=True),
        Measure("data.tables", "tables", additive=True),
        Measure("data.rows", "rows", additive=True),
        Measure("data.valid_rows", "rows", additive=True),
        # Hard: rows that their own schema refuses make tests fail for no reason of the code's.
        Measure("data.invalid_rows", "rows", additive=True, limit=Limit(max=0)),
        Measure("data.edge_cases", "rows", additive=True),
        Measure("data.references", "references", additive=True),
        Measure("data.broken_references", "references", additive=True, limit=Limit(max=0)),
        *(Measure(f"data.{name}", unit) for name, (_, unit) in _OF_PEOPLE.items()),
    ),
    options=TestDataArchitectOptions,
    measure=_measure,
    judgement=Judgement(prompt="test-data-architect", response=DataJudgement),
    memory_key="test-data/datasets",
    memory_reads=("notes/*",),
)
