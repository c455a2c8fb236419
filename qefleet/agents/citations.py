"""A judgement cites what it rests on, and what it cites has to be there.

Types of answers mark what is a citation:

```python
class Triage(BaseModel):
    issue: Citation
    reachable: bool
    why: str
```

A citation that is no string of the evidence, and a `file.py:12` anywhere in the answer that the evidence
doesn't have, make the answer unusable: the model is asked again, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class _Cites:
    """Marks a field, or the parts of a list, as citations."""


Citation = Annotated[str, _Cites()]
"""An exact string of the evidence, such as an issue's id or a test's name."""

_PLACE = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)*[\w-]+\.[A-Za-z]\w{0,4}):(\d+)\b")
_SHOWN = 3


def check_citations(answer: BaseModel, evidence: bytes) -> None:
    """Hold an answer against the evidence that it was asked about.

    Args:
        answer: Of a type that may have `Citation`s.
        evidence: As JSON.

    Raises:
        ValueError: Something that it cites isn't there; the message is for the model.
    """
    shown: Any = json.loads(evidence)
    strings = {*_strings(shown)}
    absent = [cited for cited in _citations(answer) if cited not in strings]
    if absent:
        raise ValueError(
            f"you cite {_list(absent)}, which the data doesn't have: "
            "copy citations from the data, word for word"
        )
    there = {*_places(shown)}
    absent = [
        f"{path}:{line}"
        for text in _strings(answer.model_dump(mode="json"))
        for path, line in _PLACE.findall(text)
        if text not in strings and (path, int(line)) not in there
    ]
    if absent:
        raise ValueError(f"you name {_list(absent)}, a place that the data doesn't have")


def is_citation(field: FieldInfo) -> bool:
    """Whether a field of an answer, or each part of it, has to be there in the evidence."""
    return any(
        isinstance(mark, _Cites)
        for marks in (field.metadata, *map(_marks, (field.annotation, *_parts(field.annotation))))
        for mark in marks
    )


def _citations(answer: BaseModel) -> Iterator[str]:
    for name, field in type(answer).model_fields.items():
        marked = any(isinstance(mark, _Cites) for mark in field.metadata)
        yield from _cited(getattr(answer, name), field.annotation, marked=marked)


def _cited(value: Any, annotation: Any, *, marked: bool) -> Iterator[str]:
    marked = marked or any(
        isinstance(mark, _Cites) for part in (annotation, *_parts(annotation)) for mark in _marks(part)
    )
    match value:
        case BaseModel():
            yield from _citations(value)
        case str() if marked:
            yield value
        case list() | tuple():
            for part in cast("list[Any]", value):
                yield from _cited(part, annotation, marked=marked)
        case dict():
            for part in cast("dict[str, Any]", value).values():
                yield from _cited(part, annotation, marked=marked)
        case _:
            return


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _marks(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__metadata__", ())


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for part in cast("list[Any]", value):
                yield from _strings(part)
        case dict():
            for key, part in cast("dict[str, Any]", value).items():
                yield key
                yield from _strings(part)
        case _:
            return


def _places(value: Any) -> Iterator[tuple[str, int]]:
    """Places of the evidence: `path` and `line` of one object, and `file:line` in any text."""
    match value:
        case str():
            yield from ((path, int(line)) for path, line in _PLACE.findall(value))
        case list():
            for part in cast("list[Any]", value):
                yield from _places(part)
        case dict():
            found = cast("dict[str, Any]", value)
            path = found.get("path")
            if isinstance(path, str):
                for key in ("line", "end_line"):
                    if isinstance(line := found.get(key), int):
                        yield path, line
            for part in found.values():
                yield from _places(part)
        case _:
            return


def _list(absent: list[str]) -> str:
    shown = ", ".join(repr(text[:120]) for text in absent[:_SHOWN])
    return shown + (f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else "")
