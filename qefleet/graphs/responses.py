"""A Pydantic class that an answer is to fit, carried as JSON Schema, and rebuilt from it where the node runs.

A class is carried only where the rebuilt one puts the same words into the prompt and says the same about an
answer: what a schema can't say, such as a validator written in Python, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Union, cast, get_args

import annotated_types
from lionagi.libs.schema.breakdown_pydantic_annotation import breakdown_pydantic_annotation
from lionagi.operations.operate.step import Step
from lionagi.operations.schema.json_structure import JsonStructure
from lionagi.protocols.messages.instruction import InstructionContent
from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo

from qefleet.contracts.operations import ResponseModel
from qefleet.errors import GraphError

_PLAIN: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
}
_LIMITS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "pattern": "pattern",
}
_SAID_BY_SCHEMA = frozenset({"extra", "frozen"})
"""Settings of a class that its schema tells, or that don't matter to an answer."""


def describe(response: type[BaseModel], *, node: str) -> ResponseModel:
    """A class as JSON.

    Args:
        response: As given for `response_format`.
        node: Who wants it, for the message.

    Raises:
        GraphError: It says more than a JSON Schema can, or something that isn't supported.
    """
    advice = "use plain fields (str, int, float, bool, Literal, lists, dicts, other such models), or a dict"
    for cls in _models_in(response):
        if why := _unsaid(cls):
            raise GraphError(node, f"response_format {cls.__name__} can't be carried: {why}; {advice}")
    try:
        described = ResponseModel(
            json_schema=response.model_json_schema(), shape=_shape(_asked_for(response))
        )
        same = _prompt(rebuilt(described)) == _prompt(response)
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # pydantic's own are among them
        raise GraphError(node, f"response_format {response.__name__} can't be carried: {advice}") from error
    if not same:
        raise GraphError(
            node, f"response_format {response.__name__} can't be rebuilt from its JSON Schema: {advice}"
        )
    return described


def rebuilt(described: ResponseModel) -> type[BaseModel]:
    """The class for a description; the same one for the same description, as lionagi caches by class."""
    return _rebuilt(described.model_dump_json())


@lru_cache(maxsize=256)
def _rebuilt(text: str) -> type[BaseModel]:
    described = ResponseModel.model_validate_json(text)
    return _Rebuilding(described.json_schema).root(described.shape)


class _Carried(BaseModel):
    """Base of rebuilt classes: the classes that lionagi derives show their fields as the original's did."""

    shape_: ClassVar[Mapping[str, Any] | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.shape_ is not None:
            cls.__annotations__ = {
                name: cls.shape_.get(name, annotation) for name, annotation in cls.__annotations__.items()
            }


class _Shown:
    """Stands for an annotation where only its text is wanted."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _Rebuilding:
    """Makes Pydantic classes of one JSON Schema as Pydantic writes it."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        self._made: dict[str, Any] = {}

    def root(self, shape: Mapping[str, Any] | None) -> type[BaseModel]:
        made = self._object(self._schema, _Carried)
        # Set now: the class itself is to keep its real annotations, those derived from it to show the text.
        made.shape_ = None if shape is None else cast("Mapping[str, Any]", _shown(shape))
        return made

    def _object(self, schema: Mapping[str, Any], base: type[BaseModel]) -> Any:
        extra = {False: "forbid", True: "allow", None: "ignore"}[schema.get("additionalProperties")]
        required = set(schema.get("required", []))
        fields = {
            name: self._field(spec, required=name in required) for name, spec in schema["properties"].items()
        }
        made: Any = create_model(
            schema["title"],
            __base__=base,
            __doc__=schema.get("description"),
            __cls_kwargs__={"extra": extra},
            **cast("dict[str, Any]", fields),
        )
        return made

    def _field(self, schema: Mapping[str, Any], *, required: bool) -> tuple[Any, Any]:
        kind = self._type(schema)
        told = {key: schema[key] for key in ("title", "description") if key in schema}
        if required:
            return kind, Field(**told)
        if "default" in schema:
            return kind, Field(default=schema["default"], validate_default=True, **told)
        empty: Any = list if schema["type"] == "array" else dict
        return kind, Field(default_factory=empty, **told)

    def _type(self, schema: Mapping[str, Any]) -> Any:
        limits = {ours: schema[theirs] for theirs, ours in _LIMITS.items() if theirs in schema}
        kind = self._bare_type(schema)
        return Annotated[kind, Field(**limits)] if limits else kind

    def _bare_type(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self._definition(schema["$ref"].removeprefix("#/$defs/"))
        if "const" in schema:
            return Literal[schema["const"]]
        if "enum" in schema:
            return Literal[tuple(schema["enum"])]
        if "anyOf" in schema:
            return Union[tuple(self._type(option) for option in schema["anyOf"])]  # noqa: UP007 - at run time
        return self._typed(schema)

    def _typed(self, schema: Mapping[str, Any]) -> Any:
        match schema.get("type"):
            case "array":
                return list[self._type(schema["items"])]
            case "object":
                values = schema["additionalProperties"]
                return dict[str, Any if values is True else self._type(values)]
            case None:
                return Any
            case name:
                return _PLAIN[name]

    def _definition(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._object(self._definitions[name], BaseModel)
        return self._made[name]


def _models_in(annotation: Any, seen: set[Any] | None = None) -> Iterator[type[BaseModel]]:
    """All model classes that an annotation names, itself and its fields' included."""
    seen = set() if seen is None else seen
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return
        seen.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models_in(field.annotation, seen)
    for part in get_args(annotation):
        yield from _models_in(part, seen)


def _unsaid(cls: type[BaseModel]) -> str | None:
    """What a class says that its JSON Schema doesn't."""
    decorators = cls.__pydantic_decorators__
    if any(
        (
            decorators.validators,
            decorators.field_validators,
            decorators.root_validators,
            decorators.model_validators,
            decorators.field_serializers,
            decorators.model_serializers,
            decorators.computed_fields,
            cls.__pydantic_post_init__,
        )
    ):
        return "it has validators, serializers or computed fields"
    if settings := sorted(cls.model_config.keys() - _SAID_BY_SCHEMA):
        return f"it sets {settings[0]} in its model_config"
    for name, field in cls.model_fields.items():
        if why := _unsaid_by_field(field):
            return f"its field {name} {why}"
    return None


def _unsaid_by_field(field: FieldInfo) -> str | None:
    if any((field.alias, field.validation_alias, field.serialization_alias, field.discriminator)):
        return "has an alias or a discriminator"
    if field.default_factory not in (None, list, dict):
        return "has a default_factory other than list and dict"
    limits = [*field.metadata, *_limits_in(field.annotation)]
    if not all(isinstance(limit, annotated_types.BaseMetadata | FieldInfo) for limit in limits):
        return "has a validator"
    return None


def _limits_in(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _limits_in(part)


def _asked_for(response: type[BaseModel]) -> type[BaseModel]:
    return cast("type[BaseModel]", JsonStructure(response).request_schema())


def _shape(cls: type[BaseModel]) -> dict[str, Any]:
    """What lionagi shows of the fields, its leaves as text."""

    def told(value: Any) -> Any:
        match value:
            case dict():
                return {name: told(part) for name, part in cast("dict[str, Any]", value).items()}
            case list():
                return [told(part) for part in cast("list[Any]", value)]
            case _:
                return repr(value)

    return told(breakdown_pydantic_annotation(cls))


def _shown(shape: Any) -> Any:
    match shape:
        case dict():
            return {name: _shown(part) for name, part in cast("dict[str, Any]", shape).items()}
        case list():
            return [_shown(part) for part in cast("list[Any]", shape)]
        case _:
            return _Shown(shape)


def _prompt(response: type[BaseModel]) -> list[str]:
    """All that lionagi makes of a class in prompts, and what the class says itself."""
    requested = Step.request_operative(base_type=response)  # pyright: ignore[reportUnknownMemberType] - lionagi leaves parameters bare
    operative = Step.respond_operative(requested)
    classes = (response, operative.response_type)
    shown = [InstructionContent.from_dict({"response_format": cls}).rendered for cls in classes]
    return [*map(str, shown), json.dumps(response.model_json_schema(), sort_keys=False)]
