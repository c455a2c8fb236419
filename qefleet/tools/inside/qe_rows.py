"""Rows for schemas, by mimesis: `/qe/rows-spec.json` in, `/out/rows.json` out.

Run with the fleet's interpreter. A table is a JSON Schema with, for those of SQL, keys and references. What a
field holds is told from its type, its constraints and its name. The same schema, seed and locale give the
same rows. The first rows are edge cases, each with one field at one of its limits.
"""

from __future__ import annotations

import datetime as dt
import importlib
import itertools
import json
import math
import random
import re
import sqlite3
import string
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

sre: Any = importlib.import_module("re._parser")  # the parser of patterns, which has no public name
sys.modules["rfc3987_syntax"] = cast("Any", None)  # jsonschema does without; importing it takes two seconds

from jsonschema import Draft202012Validator, FormatChecker  # noqa: E402
from jsonschema.validators import validator_for  # noqa: E402
from mimesis import Generic  # noqa: E402
from mimesis.locales import Locale  # noqa: E402

Json = dict[str, Any]
_DEEP = 5
_TRIES = 50
_LONGEST = 10_000
_USUAL = 1000
_OPTIONAL = 0.8
_NULL = 0.1
_UNICODE = "\u00e9\u4e2d\u05d0\U0001f600"
_QUOTES = "'\"\\;--<>&%"
_FIRST, _LAST = dt.date(1950, 1, 1), dt.date(2030, 12, 31)
_PEOPLE = re.compile(
    r"user|person|people|customer|author|employee|contact|patient|student|member|client|account"
)
_Make = Callable[[Any, random.Random], Any]
_KINDS: tuple[tuple[str, str, _Make], ...] = (
    ("email", r"e_?mail", lambda m, r: f"u{r.randrange(10**8)}.{m.person.email(domains=['example.org'])}"),
    ("first name", r"(first|given|fore)_?name", lambda m, _: m.person.first_name()),
    ("last name", r"(last|family)_?name|surname", lambda m, _: m.person.last_name()),
    ("user name", r"user_?name|login|nick|handle", lambda m, r: f"{m.person.username()}{r.randrange(10**6)}"),
    ("file name", r"file_?name", lambda m, _: m.file.file_name()),
    ("company", r"company|employer|organi[sz]ation|vendor|supplier", lambda m, _: m.finance.company()),
    ("person", r"full_?name|author|owner|contact", lambda m, _: m.person.full_name()),
    ("phone", r"phone|mobile|(^|_)tel($|_)|fax", lambda m, _: m.person.telephone()),
    ("postcode", r"zip|postal|post_?code", lambda m, _: m.address.postal_code()),
    ("street", r"street|address", lambda m, _: m.address.address()),
    ("city", r"city|town", lambda m, _: m.address.city()),
    ("country code", r"country_?(code|iso)", lambda m, _: m.address.country_code()),
    ("country", r"country|nation", lambda m, _: m.address.country()),
    ("region", r"region|province|county", lambda m, _: m.address.state()),
    ("latitude", r"(^|_)lat(itude)?$", lambda _, r: round(r.uniform(-90, 90), 6)),
    ("longitude", r"(^|_)(lng|lon(gitude)?)$", lambda _, r: round(r.uniform(-180, 180), 6)),
    ("url", r"url|website|homepage|link", lambda m, _: m.internet.url()),
    ("ip address", r"(^|_)ip($|_)", lambda m, _: m.internet.ip_v4()),
    ("uuid", r"uuid|guid", lambda _, r: _uuid(r)),
    ("currency", r"currency", lambda m, _: m.finance.currency_iso_code()),
    ("money", r"price|amount|total|cost|salary|balance|fee", lambda _, r: round(r.uniform(0.01, 9999), 2)),
    ("percentage", r"percent|ratio|rate$", lambda _, r: round(r.uniform(0, 100), 2)),
    ("age", r"(^|_)age$", lambda _, r: r.randint(0, 99)),
    ("year", r"(^|_)year$", lambda _, r: r.randint(1970, 2030)),
    ("quantity", r"quantity|qty|count|stock", lambda _, r: r.randint(0, 999)),
    ("date", r"date|birth|dob|_on$", lambda _, r: _date(r).isoformat()),
    ("time", r"_at$|time", lambda _, r: _moment(r)),
    ("colour", r"colou?r", lambda m, _: m.text.color()),
    ("title", r"title|subject|headline", lambda m, _: m.text.title()),
    ("text", r"description|comment|note|text|body|message|summary|bio", lambda m, _: m.text.sentence()),
    ("occupation", r"job|occupation|profession", lambda m, _: m.person.occupation()),
    ("gender", r"gender|(^|_)sex$", lambda m, _: m.person.gender()),
    ("language", r"lang|locale", lambda m, _: m.person.language()),
    ("digest", r"hash|digest|token|checksum", lambda _, r: f"{r.getrandbits(256):064x}"),
)
_FORMATS: dict[str, _Make] = {
    "email": lambda m, r: f"u{r.randrange(10**8)}.{m.person.email(domains=['example.org'])}",
    "date": lambda _, r: _date(r).isoformat(),
    "date-time": lambda _, r: _moment(r),
    "time": lambda _, r: _moment(r)[11:],
    "duration": lambda _, r: f"P{r.randint(1, 30)}DT{r.randint(0, 23)}H",
    "uuid": lambda _, r: _uuid(r),
    "uri": lambda m, _: m.internet.url(),
    "hostname": lambda m, _: m.internet.hostname(),
    "ipv4": lambda m, _: m.internet.ip_v4(),
    "ipv6": lambda m, _: m.internet.ip_v6(),
}


def main() -> None:
    """Make the rows of all tables, those that are referred to first."""
    spec: Json = json.loads(Path("/qe/rows-spec.json").read_text("utf-8"))
    Locale(spec["locale"])
    answer: Json = {"tables": [], "fields": [], "unread": []}
    made: dict[str, list[Json]] = {}
    connection = _database(spec["ddl"]) if spec["ddl"] else None
    for table in spec["tables"]:
        try:
            accepts = accepted_by(connection, table) if connection else accepted_by_schema(table["schema"])
            maker = Maker(table, made, accepts, seed=spec["seed"], locale=spec["locale"])
            rows, edges = maker.rows(spec["rows"], edges=spec["edge_cases"])
        except Exception as error:  # noqa: BLE001 - a schema may be wrong in any way
            why = f"{table['name']}: {type(error).__name__}: {error}"
            answer["unread"].append(" ".join(why.split())[:300])
            continue
        if len(rows) < spec["rows"]:
            answer["unread"].append(f"{table['name']}: no more than {len(rows)} different rows were found")
        made[table["name"]] = rows
        answer["tables"].append({"name": table["name"], "rows": rows, "edges": edges})
        answer["fields"] += maker.fields()
    Path("/out/rows.json").write_text(json.dumps(answer), "utf-8")


def accepted_by_schema(schema: Json) -> Callable[[Any], bool]:
    """Whether a row is what its schema asks for, those words included that making it doesn't know."""
    validator = validator_for(schema, default=Draft202012Validator)(schema, format_checker=FormatChecker())
    return validator.is_valid


def accepted_by(connection: sqlite3.Connection, table: Json) -> Callable[[Any], bool]:
    """Whether a real database takes a row, with all its checks; it keeps those that it takes."""
    columns = list(_properties(table["schema"]))
    names = ", ".join(_quoted(column) for column in columns)
    insert = f"INSERT INTO {_quoted(table['name'])} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - quoted
    fits = accepted_by_schema(table["schema"])

    def accepts(row: Any) -> bool:
        if not fits(row):
            return False
        try:
            connection.execute(insert, [row.get(column) for column in columns])
        except sqlite3.IntegrityError:
            return False
        return True

    return accepts


def _database(ddl: list[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    for statement in ddl:
        connection.execute(statement)
    return connection


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Maker:
    """Makes one table's rows."""

    def __init__(
        self,
        table: Json,
        made: dict[str, list[Json]],
        accepts: Callable[[Any], bool],
        *,
        seed: int,
        locale: str,
    ) -> None:
        self.name: str = table["name"]
        self.accepts = accepts
        self.schema: Json = table["schema"]
        self.unique: list[list[str]] = table.get("unique", [])
        self.references: list[Json] = table.get("references", [])
        self.made = {**made, self.name: []}
        self.random = random.Random(f"{seed}/{self.name}")  # noqa: S311 - test data
        self.mimesis: Any = Generic(locale=Locale(locale), seed=f"{seed}/{self.name}")
        self._taken: list[set[tuple[Any, ...]]] = [set() for _ in self.unique]
        self._shuffled: dict[int, list[Json]] = {}
        self._kinds: dict[str, list[tuple[str, _Make]]] = {}
        self._flattened: dict[int, Json] = {}
        self._alive: list[Any] = []  # so that no other schema gets the same id
        self._alternatives: dict[tuple[int, int], Json] = {}
        self._parsed: dict[str, Any] = {}

    def rows(self, count: int, *, edges: bool) -> tuple[list[Json], list[Json]]:
        """The rows, and which of them are edge cases of what."""
        rows = self.made[self.name]
        labels: list[Json] = []
        cases = list(self._cases()) if edges else []
        for number in range(count):
            field, case, change = cases[number] if number < len(cases) else ("", "", None)
            row = self._row(number, change)
            if row is None:
                row = self._row(number, None)
                case = ""
            if row is None:
                break  # no further row differs in its keys from all others
            if case:
                labels.append({"row": len(rows), "field": field, "case": case})
            rows.append(row)
        return rows, labels

    def _row(self, number: int, change: tuple[str, Any] | None) -> Json | None:
        """A row whose keys nobody has; None where none was found."""
        for attempt in range(_TRIES):
            row: Any = self.value(self.schema, self.name)
            if not isinstance(row, dict):
                if self.accepts(row):
                    return row
                continue
            made = cast("Json", row)
            self._number(made, number)
            for index, reference in enumerate(self.references):
                self._refer(made, index, reference, number + attempt)
            if change:
                made[change[0]] = change[1]
                if change[1] is _ABSENT:
                    del made[change[0]]
            keys = [_key(made, columns) for columns in self.unique]
            free = all(key is None or key not in taken for key, taken in zip(keys, self._taken, strict=True))
            if free and self.accepts(made):
                for key, taken in zip(keys, self._taken, strict=True):
                    if key is not None:
                        taken.add(key)
                return made
        return None

    def _number(self, row: Json, number: int) -> None:
        """Whole numbers that are keys by themselves count up."""
        referring = {column for reference in self.references for column in reference["columns"]}
        for columns in self.unique:
            schema = _properties(self.schema).get(columns[0], {})
            if len(columns) == 1 and columns[0] not in referring and "integer" in _types(schema):
                row[columns[0]] = max(1, math.ceil(schema.get("minimum", 1))) + number

    def _refer(self, row: Json, index: int, reference: Json, number: int) -> None:
        """Point to a row that is there; to each once where the reference is a key of its own."""
        there = self.made.get(reference["table"], [])
        properties = _properties(self.schema)
        nullable = all("null" in _types(properties.get(column, {})) for column in reference["columns"])
        if nullable and (not there or self.random.random() < _NULL):
            row.update(dict.fromkeys(reference["columns"]))
            return
        if not there:
            if reference["table"] == self.name:  # the first row points to itself
                pairs = zip(reference["columns"], reference["to"], strict=True)
                row.update({column: row.get(to) for column, to in pairs})
            return
        if reference["columns"] in self.unique:
            order = self._shuffled.setdefault(index, self.random.sample(there, len(there)))
            chosen = order[number % len(order)]
        else:
            chosen = self.random.choice(there)
        row.update({c: chosen.get(to) for c, to in zip(reference["columns"], reference["to"], strict=True)})

    def fields(self) -> list[Json]:
        """What each field is taken to hold."""
        return [
            {
                "field": f"{self.name}.{name}",
                "type": "/".join(sorted(_types(self.flat(schema)))),
                "kind": kind,
            }
            for name, schema in _properties(self.flat(self.schema)).items()
            if (kind := self._kind_of(name, self.flat(schema)))
        ]

    def _kind_of(self, name: str, schema: Json) -> str:
        for reference in self.references:
            if name in reference["columns"]:
                return f"reference to {reference['table']}"
        if "enum" in schema or "const" in schema:
            return "one of a list"
        for word in ("pattern", "format"):
            if word in schema:
                return f"{word} {schema[word]}"
        return next((kind for kind, _ in self._kinds_of(name)), "unknown")

    def _kinds_of(self, name: str) -> list[tuple[str, _Make]]:
        if name not in self._kinds:
            self._kinds[name] = list(self._guessed(name))
        return self._kinds[name]

    def _guessed(self, name: str) -> Iterator[tuple[str, _Make]]:
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        if plain in {"name", "display_name"}:
            person = _PEOPLE.search(self.name.lower()) is not None
            yield (
                ("person", lambda m, _: m.person.full_name())
                if person
                else ("name", lambda m, _: m.text.word())
            )
        yield from ((kind, make) for kind, pattern, make in _KINDS if re.search(pattern, plain))

    def flat(self, schema: Any) -> Json:
        """A schema with its reference followed and the parts of `allOf` put together."""
        if id(schema) not in self._flattened:
            self._flattened[id(schema)] = self._flat(schema)
            self._alive.append(schema)
        return self._flattened[id(schema)]

    def _flat(self, schema: Any) -> Json:
        found = dict(cast("Json", schema)) if isinstance(schema, dict) else {}
        for _ in range(20):
            reference = found.pop("$ref", None)
            if not isinstance(reference, str):
                break
            target: Any = self.schema
            for part in reference.removeprefix("#").strip("/").split("/"):
                target = target.get(part.replace("~1", "/").replace("~0", "~"), {}) if part else target
            found = {**target, **found}
        for part in found.pop("allOf", []):
            inner = self.flat(part)
            required = [*found.get("required", []), *inner.get("required", [])]
            properties = {**_properties(inner), **_properties(found)}
            found = {**inner, **found} | ({"required": required} if required else {})
            found |= {"properties": properties} if properties else {}
        return found

    def value(self, schema: Any, name: str, depth: int = 0) -> Any:
        """A value that a schema allows."""
        flat = self.flat(schema)
        for word in ("anyOf", "oneOf"):
            if parts := flat.get(word):
                chosen = parts[0] if depth > _DEEP else self.random.choice(parts)
                return self.value(self._chosen(flat, chosen, word), name, depth)
        if "const" in flat:
            return flat["const"]
        if "enum" in flat:
            return self.random.choice(flat["enum"])
        types = sorted(_types(flat))
        if "null" in types and len(types) > 1:
            types.remove("null")
            if self.random.random() < _NULL:
                return None
        return self._of_type(self.random.choice(types), flat, name, depth)

    def _chosen(self, schema: Json, part: Any, word: str) -> Json:
        """A schema with one of its alternatives in the place of all."""
        key = (id(schema), id(part))
        if key not in self._alternatives:
            rest = {name: found for name, found in schema.items() if name != word}
            self._alternatives[key] = {**rest, **self.flat(part)}
        return self._alternatives[key]

    def _of_type(self, kind: str, schema: Json, name: str, depth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._string(schema, name)
            case "integer" | "number":
                return self._number_value(schema, name, whole=kind == "integer")
            case "boolean":
                return self.random.random() < 0.5  # noqa: PLR2004
            case _:
                return None

    def _object(self, schema: Json, depth: int) -> Json:
        needed = schema.get("required", [])
        return {
            name: self.value(part, name, depth + 1)
            for name, part in _properties(schema).items()
            if name in needed or (depth < _DEEP and self.random.random() < _OPTIONAL)
        }

    def _array(self, schema: Json, name: str, depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", least + 3), least + 3) if depth < _DEEP else least
        fixed = schema.get("prefixItems", [])
        made = [self.value(part, name, depth + 1) for part in fixed]
        wanted = self.random.randint(max(least, len(made)), max(most, least, len(made)))
        for _ in range(_TRIES):
            if len(made) >= wanted:
                break
            item = self.value(schema.get("items", {"type": "string"}), name, depth + 1)
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        return made

    def _number_value(self, schema: Json, name: str, *, whole: bool) -> float:
        least, most = _bounds(schema, whole=whole)
        step = schema.get("multipleOf")
        if step:
            return self._multiple(least, most, step, whole=whole)
        for _, make in self._kinds_of(name):
            made = make(self.mimesis, self.random)
            if isinstance(made, int | float) and least <= made <= most:
                return int(made) if whole else made
        low = max(least, -_USUAL) if most >= -_USUAL else least
        high = min(most, _USUAL) if least <= _USUAL else most
        if whole:
            return self.random.randint(math.ceil(low), math.floor(high))
        made = round(self.random.uniform(low, high), 2)
        return made if least <= made <= most else self.random.uniform(low, high)

    def _multiple(self, least: float, most: float, step: float, *, whole: bool) -> float:
        first, last = math.ceil(max(least, -1000 * step) / step), math.floor(min(most, 1000 * step) / step)
        if last < first:
            first, last = math.ceil(least / step), math.floor(most / step)
        made: float = first * step
        for _ in range(_TRIES):
            exact = self.random.randint(first, max(first, last)) * Decimal(str(step))
            made = int(exact) if whole else float(exact)
            # Validators divide binary or decimal fractions, and differ: only what both take for a multiple.
            if least <= made <= most and made / step == int(made / step):
                return made
        return made

    def _string(self, schema: Json, name: str) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", _LONGEST)
        if "pattern" in schema:
            return self._matching(schema["pattern"], least, most)
        makers = [_FORMATS[schema["format"]]] if schema.get("format") in _FORMATS else []
        makers += [] if makers else [make for _, make in self._kinds_of(name)]
        for make in makers:
            for _ in range(5):
                made = str(make(self.mimesis, self.random))
                if least <= len(made) <= most:
                    return made
        length = self.random.randint(least, max(least, min(most, least + 12)))
        return "".join(self.random.choices(string.ascii_lowercase + "  ", k=length)).replace("  ", "ab")

    def _matching(self, pattern: str, least: int, most: int) -> str:
        if pattern not in self._parsed:
            self._parsed[pattern] = sre.parse(pattern)
        tree = self._parsed[pattern]
        made = ""
        for more in itertools.chain.from_iterable(itertools.repeat(n, 10) for n in (3, 0, 10, least, 40)):
            made = self._of_pattern(tree, more)
            if least <= len(made) <= most and re.search(pattern, made):
                return made
        return made

    def _of_pattern(self, tree: Any, more: int) -> str:
        """A text that a parsed pattern matches; repetitions go up to `more` beyond what they must."""
        return "".join(self._of_node(str(code), argument, more) for code, argument in tree)

    def _of_node(self, code: str, argument: Any, more: int) -> str:
        made = ""
        match code:
            case "LITERAL":
                made = chr(argument)
            case "NOT_LITERAL":
                made = "a" if argument != ord("a") else "b"
            case "ANY":
                made = self.random.choice(string.ascii_letters)
            case "IN":
                made = self._of_set(argument)
            case "BRANCH":
                made = self._of_pattern(self.random.choice(argument[1]), more)
            case "SUBPATTERN":
                made = self._of_pattern(argument[3], more)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = argument
                times = self.random.randint(low, min(int(high), low + more))
                made = "".join(self._of_pattern(inner, more) for _ in range(times))
            case _:
                pass  # without width, or told of the whole: a text that doesn't match isn't taken
        return made

    def _of_set(self, parts: Any) -> str:
        printable = string.ascii_letters + string.digits + string.punctuation + " "
        classes = {
            "CATEGORY_DIGIT": string.digits,
            "CATEGORY_WORD": string.ascii_letters + string.digits + "_",
            "CATEGORY_SPACE": " ",
        }
        allowed: set[str] = set()
        for code, argument in parts:
            match str(code):
                case "LITERAL":
                    allowed.add(chr(argument))
                case "RANGE":
                    allowed |= {chr(n) for n in range(argument[0], min(argument[1], argument[0] + 200) + 1)}
                case "CATEGORY":
                    name = str(argument).replace("_NOT", "")
                    found = {*classes.get(name, printable)}
                    allowed |= found if "_NOT" not in str(argument) else {*printable} - found
                case _:
                    continue
        if any(str(code) == "NEGATE" for code, _ in parts):
            allowed = {*printable} - allowed
        return self.random.choice(sorted(allowed)) if allowed else ""

    def _cases(self) -> Iterator[tuple[str, str, tuple[str, Any]]]:
        """Edge cases: field, case, and the value that the field takes in a row that is else like any."""
        fixed = {column for columns in self.unique for column in columns if len(columns) == 1}
        fixed |= {column for reference in self.references for column in reference["columns"]}
        flat = self.flat(self.schema)
        needed = flat.get("required", [])
        for name, part in _properties(flat).items():
            schema = self.flat(part)
            if name in fixed:
                continue
            if name not in needed:
                yield name, "absent", (name, _ABSENT)
            options = [self.flat(o) for o in (*schema.get("anyOf", []), *schema.get("oneOf", []))] or [schema]
            for option in options:
                for case, value in _edges(option):
                    yield name, case, (name, value)


class _Absent:
    """In the place of a value: the field is left out."""


_ABSENT = _Absent()


def _edges(schema: Json) -> Iterator[tuple[str, Any]]:
    """The limits of one field."""
    if "const" in schema or "enum" in schema:
        yield from (("listed", value) for value in schema.get("enum", [])[:20])
        return
    types = _types(schema) if "type" in schema else set[str]()
    if "null" in types:
        yield "null", None
    if "boolean" in types:
        yield from (("boolean", value) for value in (False, True))
    if "string" in types:
        yield from _string_edges(schema)
    if {"integer", "number"} & types and "multipleOf" not in schema:
        yield from _number_edges(schema, whole="number" not in types)
    if "array" in types and not schema.get("minItems") and "prefixItems" not in schema:
        yield "empty", []


def _string_edges(schema: Json) -> Iterator[tuple[str, Any]]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", _LONGEST)
    if schema.get("format") == "date":
        yield from (("date", day) for day in ("1970-01-01", "2000-02-29", "9999-12-31"))
    if schema.get("format") == "date-time":
        yield from (("date", f"{day}T23:59:59Z") for day in ("1969-12-31", "2000-02-29"))
    if "pattern" in schema or "format" in schema:
        return
    if least == 0:
        yield "empty", ""
    else:
        yield "shortest", "a" * least
    if "maxLength" in schema and most <= _LONGEST:
        yield "longest", "a" * most
    for case, text in (("unicode", _UNICODE), ("quotes", _QUOTES), ("blank", " " * max(1, least))):
        fitting = (text * (least // len(text) + 1))[: max(least, len(text))][:most]
        if len(fitting) >= max(least, 1):
            yield case, fitting


def _number_edges(schema: Json, *, whole: bool) -> Iterator[tuple[str, Any]]:
    least, most = _bounds(schema, whole=whole)
    if {"minimum", "exclusiveMinimum"} & schema.keys():
        yield "least", int(least) if whole else least
    if {"maximum", "exclusiveMaximum"} & schema.keys():
        yield "most", int(most) if whole else most
    yield from (("zero", 0) for _ in range(least <= 0 <= most))
    yield from (("negative", -1) for _ in range(least <= -1 <= most))


def _bounds(schema: Json, *, whole: bool) -> tuple[float, float]:
    """Smallest and largest number that is allowed."""
    least: float = schema.get("minimum", -(2**31))
    most: float = schema.get("maximum", 2**31 - 1)
    below, above = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if below is not None and not isinstance(below, bool) and below >= least:
        least = math.floor(below) + 1 if whole else math.nextafter(below, math.inf)
    if above is not None and not isinstance(above, bool) and above <= most:
        most = math.ceil(above) - 1 if whole else math.nextafter(above, -math.inf)
    return (math.ceil(least), math.floor(most)) if whole else (least, most)


def _types(schema: Any) -> set[str]:
    given = cast("Json", schema).get("type") if isinstance(schema, dict) else None
    if isinstance(given, str):
        return {given}
    if isinstance(given, list):
        return {str(part) for part in cast("list[Any]", given)}
    found = cast("Json", schema) if isinstance(schema, dict) else {}
    return {"object" if "properties" in found else "array" if "items" in found else "string"}


def _properties(schema: Json) -> dict[str, Any]:
    return schema.get("properties") or {}


def _key(row: Json, columns: list[str]) -> tuple[Any, ...] | None:
    """None where a part is null: those never equal each other."""
    values = tuple(json.dumps(row.get(column)) for column in columns)
    return None if "null" in values else values


def _uuid(rng: random.Random) -> str:
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _date(rng: random.Random) -> dt.date:
    return _FIRST + dt.timedelta(days=rng.randrange((_LAST - _FIRST).days))


def _moment(rng: random.Random) -> str:
    seconds = rng.randrange(24 * 3600)
    return f"{_date(rng).isoformat()}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"


if __name__ == "__main__":
    main()
