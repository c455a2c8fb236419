"""What has broken between two versions of an OpenAPI description.

`/qe/openapi-spec.json` in, `/out/openapi.json` out; for OpenAPI 3 and Swagger 2. Run with the fleet's
interpreter.

Only what is clear is compared: paths, operations, parameters, request bodies, success responses and their
schemas, by what a consumer sends (which must not be narrowed) and what it receives (which must not be widened
or lost). What can't be compared, such as references to other files, `not` and `if`, is listed, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml

Json = dict[str, Any]
Parameters = dict[tuple[str, str], Json]
Place = tuple[str, ...]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PRIMITIVES = ["array", "boolean", "integer", "null", "number", "object", "string"]
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_UNKNOWN: Json = {"x-qe-unknown": True}
_NOT_COMPARED = ("not", "if", "dependentSchemas", "patternProperties", "unevaluatedProperties")


def main() -> None:
    """Read each description, and hold it against the one of its path in `/qe/base.json`, if any."""
    spec: Json = json.loads(Path("/qe/openapi-spec.json").read_text("utf-8"))
    base = Path("/qe/base.json")
    before: Json = json.loads(base.read_text("utf-8")) if base.exists() else {}
    documents: Json = {}
    unreadable: list[str] = []
    changes: list[Json] = []
    not_compared: set[str] = set()
    for path in spec["specs"]:
        try:
            documents[path] = _read(Path(path))
        except (ValueError, yaml.YAMLError, OSError) as error:
            unreadable.append(f"{path}: {str(error).splitlines()[0][:200]}")
    for path, old in sorted(before.items()):
        if path in documents:
            comparison = Comparison(old, documents[path])
            found = comparison.run()
            lines = _lines(Path(path), [change["pointer"] for change in found])
            changes += [{**change, "path": path, "line": lines[change["pointer"]]} for change in found]
            not_compared |= {f"{path}: {place}" for place in comparison.not_compared}
        elif not any(text.startswith(f"{path}:") for text in unreadable):
            changes.append(_change("description-removed", "high", (), "the whole description", path=None))
    answer = {
        "operations": sum(len(list(_operations(document))) for document in documents.values()),
        "changes": changes,
        "not_compared": sorted(not_compared),
        "unreadable": unreadable,
        "documents": documents,
    }
    Path("/out/openapi.json").write_text(json.dumps(answer), "utf-8")


def _read(path: Path) -> Json:
    text = path.read_text("utf-8")
    loaded = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
    if not {"openapi", "swagger"} & _dict(loaded).keys():
        raise ValueError("no OpenAPI description")
    return json.loads(json.dumps(loaded, default=str))


def _change(rule: str, severity: str, pointer: Place, message: str, **more: Any) -> Json:
    return {"rule": rule, "severity": severity, "pointer": pointer, "message": message, "line": None, **more}


def _operations(document: Json) -> Iterator[tuple[str, str, str, Json, Json]]:
    """Each operation: its path without parameters' names, as written, its method, itself, its path's."""
    for path, item in _dict(document.get("paths")).items():
        for method in _METHODS:
            if isinstance(_dict(item).get(method), dict):
                yield re.sub(r"\{[^}]*\}", "{}", path), path, method, item[method], item


class Comparison:
    """Of one description, before and after."""

    def __init__(self, old: Json, new: Json) -> None:
        self.old, self.new = old, new
        self.changes: list[Json] = []
        self.not_compared: set[str] = set()
        self._seen: set[tuple[str, str, bool]] = set()

    def run(self) -> list[Json]:
        """All breaking changes, in the order of the older description."""
        now = {(key, method): (path, op, item) for key, path, method, op, item in _operations(self.new)}
        paths = {key for key, _ in now}
        gone: set[str] = set()
        for key, path, method, old, item in _operations(self.old):
            found = now.get((key, method))
            if found is not None:
                place, new, new_item = found
                before = self._parameters(old, item, path, self.old)
                after = self._parameters(new, new_item, place, self.new)
                self._operation(old, before, new, after, ("paths", place, method))
            elif key in paths:
                message = f"{method.upper()} {path} was removed"
                self._add("operation-removed", "high", ("paths", path), message)
            elif path not in gone:
                gone.add(path)
                self._add("path-removed", "high", ("paths",), f"{path} was removed with all its operations")
        return self.changes

    def _add(self, rule: str, severity: str, pointer: Place, message: str) -> None:
        self.changes.append(_change(rule, severity, pointer, message))

    def _operation(self, old: Json, before: Parameters, new: Json, after: Parameters, at: Place) -> None:
        name = f"{at[2].upper()} {at[1]}"
        positions = {key: str(position) for position, key in enumerate(after)}
        for key, was in before.items():
            where, title = key[0], f"{key[0]} parameter {key[1]}"
            here = (*at, "parameters", positions.get(key, ""))
            if key not in after:
                self._add("parameter-removed", "medium", at, f"{name}: {title} was removed")
            else:
                if after[key].get("required") and not was.get("required"):
                    self._add("parameter-became-required", "high", here, f"{name}: {title} became required")
                if where != "body":
                    self._schema(
                        _inline(was), _inline(after[key]), (*here, "schema"), f"{name}: {title}", sent=True
                    )
        for key, added in after.items():
            if key not in before and added.get("required") and key[0] != "body":
                here = (*at, "parameters", positions[key])
                message = f"{name}: required {key[0]} parameter {key[1]} was added"
                self._add("required-parameter-added", "high", here, message)
        self._body(self._request(old, before, self.old), self._request(new, after, self.new), at, name)
        self._responses(old, new, at, name)

    def _parameters(self, op: Json, item: Json, path: str, document: Json) -> Parameters:
        """By where they are and their name; those of the path by their place in it: no name is sent."""
        found: Parameters = {}
        places = re.findall(r"\{([^}]*)\}", path)
        for given in [*_list(item.get("parameters")), *_list(op.get("parameters"))]:
            parameter = self._resolve(given, document)
            where = str(parameter.get("in"))
            name = str(parameter.get("name"))
            if where == "path" and name in places:
                name = f"#{places.index(name) + 1}"
            found[where, name if where != "header" else name.lower()] = parameter
        return found

    def _request(self, op: Json, parameters: Parameters, document: Json) -> Json:
        body = next((parameter for (where, _), parameter in parameters.items() if where == "body"), None)
        if body is not None:  # Swagger 2
            return {"required": body.get("required"), "content": {"body": {"schema": body.get("schema")}}}
        return self._resolve(op.get("requestBody") or {}, document)

    def _body(self, old: Json, new: Json, at: Place, name: str) -> None:
        here = (*at, "requestBody")
        if new.get("required") and not old.get("required"):
            self._add(
                "request-body-became-required", "high", here, f"{name}: the request body became required"
            )
        was, now = _dict(old.get("content")), _dict(new.get("content"))
        if was and not now:
            self._add("request-body-removed", "medium", at, f"{name}: the request body was removed")
            return
        self._content(was, now, here, f"{name}: request", sent=True)

    def _responses(self, old: Json, new: Json, at: Place, name: str) -> None:
        after = _dict(new.get("responses"))
        for status, given in _dict(old.get("responses")).items():
            here = (*at, "responses", status)
            if status not in after:
                if status.startswith("2"):
                    self._add("response-removed", "high", here[:-1], f"{name}: response {status} was removed")
                continue
            was, now = self._resolve(given, self.old), self._resolve(after[status], self.new)
            contents = [
                _dict(part.get("content")) or ({"body": part} if "schema" in part else {})
                for part in (was, now)
            ]
            self._content(contents[0], contents[1], here, f"{name}: response {status}", sent=False)

    def _content(self, was: Json, now: Json, at: Place, what: str, *, sent: bool) -> None:
        for media, given in was.items():
            if media not in now:
                self._add("media-type-removed", "high", at, f"{what}: {media} was removed")
                continue
            here = (*at, "schema") if media == "body" else (*at, "content", media, "schema")
            self._schema(_dict(given).get("schema"), _dict(now[media]).get("schema"), here, what, sent=sent)

    def _resolve(self, value: Any, document: Json) -> Json:
        """Follow references within the description."""
        for _ in range(20):
            found = _dict(value)  # none of it where it is true, which allows all
            reference = found.get("$ref")
            if not isinstance(reference, str):
                return found
            if not reference.startswith("#/"):
                self.not_compared.add(f"reference to {reference}")
                return _UNKNOWN
            value = _at(document, reference)
        return _UNKNOWN

    def _flat(self, value: Any, document: Json) -> Json:
        """A schema with its reference followed, the parts of `allOf` put together, `null` among its types."""
        schema = dict(self._resolve(value, document))
        for part in _list(schema.pop("allOf", None)):
            inner = self._flat(part, document)
            required = [*_list(schema.get("required")), *_list(inner.get("required"))]
            properties = {**_dict(inner.get("properties")), **_dict(schema.get("properties"))}
            schema = {**inner, **schema}
            schema |= {"required": required} if required else {}
            schema |= {"properties": properties} if properties else {}
        for word in ("anyOf", "oneOf"):
            parts = [self._resolve(part, document) for part in _list(schema.get(word))]
            others = [part for part in parts if part.get("type") != "null"]
            if len(others) == 1 and len(parts) > 1:
                rest = {key: found for key, found in schema.items() if key != word}
                schema = {**self._flat(others[0], document), **rest, "nullable": True}
        return schema

    def _schema(self, old: Any, new: Any, at: Place, what: str, *, sent: bool) -> None:
        key = (json.dumps(old, sort_keys=True), json.dumps(new, sort_keys=True), sent)
        if "$ref" in key[0] + key[1]:
            # Recursive types end here; a type that is used in many places is reported once.
            if key in self._seen:
                return
            self._seen.add(key)
        was, now = self._flat(old, self.old), self._flat(new, self.new)
        if "x-qe-unknown" in was or "x-qe-unknown" in now:
            return
        if (reference := str(_dict(new).get("$ref", ""))).startswith("#/"):
            at = tuple(reference[2:].split("/"))
        self.not_compared |= {f"{what}: {word}" for word in _NOT_COMPARED if word in was or word in now}
        self._types(was, now, at, what, sent=sent)
        self._values(was, now, at, what, sent=sent)
        self._properties(was, now, at, what, sent=sent)
        self._alternatives(was, now, at, what, sent=sent)
        if "items" in was and "items" in now:
            self._schema(was["items"], now["items"], (*at, "items"), f"{what}[]", sent=sent)

    def _types(self, was: Json, now: Json, at: Place, what: str, *, sent: bool) -> None:
        before, after = _types(was), _types(now)
        lost = before - after if sent else after - before
        if lost:
            verb = "narrowed" if sent else "widened"
            message = f"{what}: type {verb} from {_listed(before)} to {_listed(after)}"
            self._add(f"type-{verb}", "high", at, message)

    def _values(self, was: Json, now: Json, at: Place, what: str, *, sent: bool) -> None:
        old, new = _enum(was), _enum(now)
        if sent and new is not None and (old is None or old - new):
            lost = f": no longer {_listed(old - new)}" if old else ""
            self._add("enum-narrowed", "high", at, f"{what}: fewer values are allowed{lost}")
        if not sent and old is not None and (new is None or new - old):
            added = f": {_listed(new - old)}" if new else ""
            self._add("enum-widened", "medium", at, f"{what}: values that were not there before{added}")
        if not sent:
            return
        for word, sign in (*((word, 1) for word in _AT_LEAST), *((word, -1) for word in _AT_MOST)):
            bound, limit = now.get(word), was.get(word)
            if isinstance(bound, bool) or not isinstance(bound, int | float):
                continue
            if not isinstance(limit, int | float) or isinstance(limit, bool) or sign * (bound - limit) > 0:
                self._add("bound-narrowed", "medium", at, f"{what}: {word} is {bound}, was {limit}")
        if "pattern" in now and now["pattern"] != was.get("pattern"):
            self._add("pattern-changed", "medium", at, f"{what}: another pattern is asked for")

    def _properties(self, was: Json, now: Json, at: Place, what: str, *, sent: bool) -> None:
        hidden = "readOnly" if sent else "writeOnly"
        before, after = (
            {
                name: schema
                for name, schema in _dict(part.get("properties")).items()
                if not self._resolve(schema, document).get(hidden)
            }
            for part, document in ((was, self.old), (now, self.new))
        )
        needed, needs = ({str(name) for name in _list(part.get("required"))} for part in (was, now))
        for name, schema in before.items():
            here = (*at, "properties", name)
            if name in after:
                self._schema(schema, after[name], here, f"{what}.{name}", sent=sent)
            elif sent:
                closed = now.get("additionalProperties") is False
                self._add(
                    "property-removed", "high" if closed else "medium", at, f"{what}.{name} was removed"
                )
            else:
                severity = "high" if name in needed else "medium"
                self._add("property-removed", severity, at, f"{what}.{name} was removed")
        if sent:
            for name in sorted((needs - needed) & after.keys()):
                added = "became required" if name in before else "was added as required"
                rule = "property-became-required" if name in before else "required-property-added"
                self._add(rule, "high", (*at, "properties", name), f"{what}.{name} {added}")
        else:
            for name in sorted((needed - needs) & before.keys() & after.keys()):
                here = (*at, "properties", name)
                self._add("property-became-optional", "high", here, f"{what}.{name} may be left out now")

    def _alternatives(self, was: Json, now: Json, at: Place, what: str, *, sent: bool) -> None:
        for word in ("oneOf", "anyOf"):
            if not (_list(was.get(word)) and _list(now.get(word))):
                if word in was or word in now:
                    self.not_compared.add(f"{what}: {word}")
                continue
            before, after = (
                {_alternative(part): part for part in _list(schema[word])} for schema in (was, now)
            )
            lost = before.keys() - after.keys() if sent else after.keys() - before.keys()
            if lost:
                verb = "removed" if sent else "added"
                message = f"{what}: an alternative was {verb}: {_listed(lost)}"
                self._add(f"alternative-{verb}", "high", (*at, word), message)
            for name in sorted(before.keys() & after.keys()):
                self._schema(before[name], after[name], (*at, word), what, sent=sent)


def _alternative(schema: Any) -> str:
    """By what an alternative of one version is found again in the other."""
    found = _dict(schema)
    if name := found.get("$ref") or found.get("title"):
        return str(name).rpartition("/")[2]
    return json.dumps(schema, sort_keys=True)[:200]


def _inline(parameter: Json) -> Any:
    """A parameter's schema; in Swagger 2 it is the parameter itself."""
    if "schema" in parameter:
        return parameter["schema"]
    if content := list(_dict(parameter.get("content")).values()):
        return _dict(content[0]).get("schema")
    return {key: value for key, value in parameter.items() if key not in {"in", "name", "required"}}


def _types(schema: Json) -> set[str]:
    """The primitive types that a schema allows, all where it says nothing."""
    given = schema.get("type")
    if given is None:
        return {*_PRIMITIVES}
    types = {given} if isinstance(given, str) else {str(part) for part in _list(given)}
    types |= {"integer"} if "number" in types else set()
    return types | {"null"} if schema.get("nullable") else types


def _enum(schema: Json) -> set[str] | None:
    if "const" in schema:
        return {json.dumps(schema["const"])}
    return {json.dumps(value) for value in _list(schema["enum"])} if "enum" in schema else None


def _dict(value: Any) -> Json:
    """A mapping; an empty one in the place of anything else."""
    return cast("Json", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    """A list; an empty one in the place of anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _listed(values: Iterable[str]) -> str:
    names = sorted(values)
    if names == _PRIMITIVES:
        return "any"
    return ", ".join(name for name in names if name != "integer" or "number" not in names)


def _at(document: Json, reference: str) -> Any:
    value: Any = document
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~").replace("%7B", "{").replace("%7D", "}")
        value = _dict(value).get(name)
    return value


def _lines(path: Path, pointers: list[Place]) -> dict[Place, int]:
    """The line of each place, or of the nearest above it; JSON is near enough to YAML for that."""
    if not pointers:
        return {}
    try:
        root = yaml.compose(path.read_text("utf-8").replace("\t", " "), yaml.CSafeLoader)
    except yaml.YAMLError:
        root = None
    return {pointer: _line(root, pointer) for pointer in pointers}


def _line(node: Any, pointer: Place) -> int:
    line = 1
    for part in pointer:
        if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
            continue
        pairs: list[tuple[Any, Any]] = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


if __name__ == "__main__":
    main()
