"""An agent's declaration, told to people and programs: `qe agents show`, the pages of `docs/agents/`."""

from __future__ import annotations

import ast
import inspect
import json
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, cast, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qefleet.agents.agent import OWN_PACKAGE, Agent
from qefleet.agents.citations import is_citation
from qefleet.agents.prompt import Prompt, load_prompt
from qefleet.contracts.runs import Limit

_DEPTH = 4
_TARGET = "pypi:tabulate==0.10.0"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option, or one field of what a model answers."""

    name: str
    form: str
    """Such as `integer, 1 to 3`."""
    default: str = ""
    """As JSON."""
    about: str = ""
    cites: bool = False
    """It has to be an exact string of the evidence."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is to be known of an agent before it is run."""

    agent: Agent
    options: tuple[Option, ...]
    answer: tuple[Option, ...]
    """What a model judges or proposes; empty where none is asked."""
    prompt: Prompt | None
    example: dict[str, Any]
    """The input of a Pipeline that runs it."""

    @property
    def typed(self) -> str:
        """The same, typed with `qe`."""
        return f"qe run pipeline {_TARGET} --agents {','.join(self.example['agents'])}"

    @property
    def through_temporal(self) -> str:
        """The same, typed with the plain Temporal CLI."""
        return (
            "temporal workflow start --type Pipeline --task-queue qe-fleet "
            f"--workflow-id qe-{self.agent.id}-1 --input {shlex.quote(json.dumps(self.example))}"
        )


def describe(agent: Agent) -> Description:
    """Tell what an agent is, from its declaration alone."""
    answer = agent.judgement.response if agent.judgement else (agent.loop.response if agent.loop else None)
    return Description(
        agent=agent,
        options=tuple(_fields(agent.options)),
        answer=tuple(_answer(answer)) if answer else (),
        prompt=_prompt(agent),
        # Whoever gates has something to gate.
        example={"target": _TARGET, "agents": [*(["test-executor"] if agent.gates else []), agent.id]},
    )


def limit_in_words(limit: Limit | None) -> str:
    """Such as `at most 0, hard`; empty without one."""
    if limit is None:
        return ""
    bounds = [f"at most {limit.max:g}"] if limit.max is not None else []
    bounds += [f"at least {limit.min:g}"] if limit.min is not None else []
    return f"{' and '.join(bounds)}, {limit.severity}"


def _prompt(agent: Agent) -> Prompt | None:
    if agent.judgement:
        return load_prompt(agent.judgement.prompt, agent.judgement.package)
    try:
        return load_prompt(agent.id, OWN_PACKAGE) if agent.loop else None
    except FileNotFoundError:
        return None


def _fields(model: type[BaseModel]) -> Iterator[Option]:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    about = field_docs(model)
    for name, field in schema.get("properties", {}).items():
        yield Option(
            name=name,
            form=_form(field, definitions),
            default=json.dumps(field["default"]) if "default" in field else "",
            about=about.get(name, ""),
        )


def _answer(model: type[BaseModel], prefix: str = "", depth: int = _DEPTH) -> Iterator[Option]:
    schema = model.model_json_schema()
    about = field_docs(model)
    for name, field in model.model_fields.items():
        shown = schema.get("properties", {}).get(name, {})
        inner = _inner(field)
        path = prefix + name + ("[]" if shown.get("type") == "array" else "")
        if inner and depth:
            yield from _answer(inner, f"{path}.", depth - 1)
            continue
        form = _form(shown.get("items", shown), schema.get("$defs", {}))
        yield Option(name=path, form=form, about=about.get(name, ""), cites=is_citation(field))


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    """The model that a field has, or has several of."""
    for part in (field.annotation, *get_args(field.annotation)):
        if inspect.isclass(part) and issubclass(part, BaseModel):
            return part
    return None


def _form(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    field = definitions.get(field.get("$ref", "").rpartition("/")[2], field)
    if forms := cast("list[dict[str, Any]]", field.get("anyOf", [])):
        return " or ".join(_form(form, definitions) for form in forms)
    if "enum" in field:
        return "one of " + ", ".join(map(str, field["enum"]))
    match field.get("type"):
        case "array":
            return f"list of {_form(field.get('items', {}), definitions)}"
        case "object":
            return _object_form(field, definitions)
        case str() as kind:
            named = {"string": "text", "boolean": "true or false"}.get(kind, kind)
            return ", ".join([named, *_bounds(field)])
        case _:
            return "any value"


def _object_form(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if parts := cast("dict[str, Any]", field.get("properties", {})):
        return f"object with {', '.join(parts)}"
    of_names = [*cast("dict[str, Any]", field.get("patternProperties", {})).values()]
    inner = of_names[0] if of_names else field.get("additionalProperties")
    if not isinstance(inner, dict):
        return "object"
    return f"object by name, each {_form(cast('dict[str, Any]', inner), definitions)}"


def _bounds(field: dict[str, Any]) -> Iterator[str]:
    for key, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "over"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if key in field:
            yield f"{words} {field[key]:g}"


@cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The string under each field of a class and of those that it extends; empty where there is no source."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, after in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = _docstring(after)
    return found


def _docstring(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""
