"""From a model's text to a typed value, or to the reason why not, in words that the model can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from lionagi.ln.fuzzy import (
    fuzzy_validate_pydantic,  # pyright: ignore[reportUnknownVariableType] - lionagi leaves its parameter bare
)
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from qefleet.llm.question import T

_THINKING = re.compile(r"^\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n\s*```", re.DOTALL)
_FAULTS_SHOWN = 5


class UnusableReplyError(Exception):
    """A reply came, and it can't be used; the message is for the model that is asked again."""


def read_answer(
    text: str, response: type[T], *, cut_off: bool, check: Callable[[T], None] | None = None
) -> T:
    """Read the answer out of a reply, and have it checked.

    Args:
        text: As the model wrote it, thinking aloud included.
        response: Type of the answer.
        cut_off: Whether it ran into its limit.
        check: Raises ValueError for an answer that can't be used.

    Raises:
        UnusableReplyError: There is no such answer in it, or it is refused.
    """
    value = parse_reply(text, response, cut_off=cut_off)
    if check:
        try:
            check(value)
        except ValueError as error:
            raise UnusableReplyError(f"it can't be accepted ({error}).") from error
    return value


def parse_reply(text: str, response: type[T], *, cut_off: bool) -> T:
    """Read the answer out of a reply.

    Args:
        text: As the model wrote it, thinking aloud included.
        response: Type of the answer.
        cut_off: Whether it ran into its limit: then only complete JSON counts, and nothing is mended.

    Raises:
        UnusableReplyError: There is no such answer in it.
    """
    answer = _THINKING.sub("", text, count=1).strip()
    if not answer:
        raise UnusableReplyError("it was empty.")
    faults: ValidationError | None = None
    for candidate in _objects(answer):
        try:
            return _storable(response.model_validate(candidate))
        except ValidationError as error:
            faults = error
    if cut_off:
        raise UnusableReplyError("it was cut off at its length limit. Be much shorter.")
    try:
        mended: Any = fuzzy_validate_pydantic(answer, response, fuzzy_match=True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # lionagi's ValidationError is a ValueError; a list or number in place of an object gives the others.
        raise UnusableReplyError(_reason(faults)) from (faults or error)
    return _storable(response.model_validate(mended))


def _storable(value: T) -> T:
    try:
        value.model_dump_json()
    except (
        PydanticSerializationError
    ) as error:  # half of a surrogate pair, which JSON can spell and UTF-8 can't
        raise UnusableReplyError("it held a character that is none.") from error
    return value


def _objects(answer: str) -> Iterator[Any]:
    """JSON in the reply, most likely first: all of it, a fenced block, from the first brace to the last."""
    places = [answer, *_FENCED.findall(answer)]
    if 0 <= (first := answer.find("{")) < (last := answer.rfind("}")):
        places.append(answer[first : last + 1])
    for place in places:
        try:
            # Not strict: weak models write line breaks into strings as they are.
            yield json.loads(place, strict=False)
        except ValueError:  # also a number with too many digits
            continue
        except RecursionError:
            continue


def _reason(faults: ValidationError | None) -> str:
    if faults is None:
        return "it was not one JSON object."
    found = faults.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, fault['loc'])) or 'answer'}: {fault['msg']}" for fault in found[:_FAULTS_SHOWN]
    ]
    return f"it did not fit the schema ({'; '.join(shown)})."
