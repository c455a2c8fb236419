"""What can be a key and a value, in every store; and which words stand in one."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from qefleet.errors import InvalidInput
from qefleet.memory.protocol import Entry, Record, Unusable

KEY_MAX_BYTES = 1024
NAME_MAX_BYTES = 200
"""Of a project's or a partition's name; all three together fit into one index entry of Postgres."""
VALUE_MAX_BYTES = 16 * 2**20
TTL_MAX = timedelta(days=36_525)
WORDS_MAX = 2_000
"""Different words of one value that count."""
WORD_MAX = 32

_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")
_WORD = re.compile(r"[^\W_]+")
_QUOTED_MAX = 60


def check_key(key: str) -> str:
    """The key itself.

    Raises:
        InvalidInput: It is empty, too long, or has characters that no store takes.
    """
    return _check_text(key, field="key", max_bytes=KEY_MAX_BYTES)


def check_name(name: str, *, field: str) -> str:
    """A project's or partition's name itself; errors as for `check_key`."""
    return _check_text(name, field=field, max_bytes=NAME_MAX_BYTES)


def check_ttl(ttl: timedelta | None) -> timedelta | None:
    """The time itself.

    Raises:
        InvalidInput: It isn't positive, or longer than a century.
    """
    if ttl is not None and not timedelta() < ttl <= TTL_MAX:
        raise InvalidInput("ttl", "must be more than 0 and at most 100 years")
    return ttl


def to_json(key: str, value: Any) -> str:
    """A value as JSON text that says exactly it.

    Raises:
        InvalidInput: It has no JSON form (NaN, infinity, what Pydantic can't serialise), or is too long.
    """
    field = f"value of {_quoted(key)}"
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=to_jsonable_python)
    except ValueError as error:
        reason = "JSON has no NaN and no infinity" if "Out of range float" in str(error) else str(error)
        raise InvalidInput(field, f"has no JSON form: {reason}") from error
    except (TypeError, RecursionError) as error:
        raise InvalidInput(field, f"has no JSON form: {error}") from error
    if len(text) > VALUE_MAX_BYTES:
        raise InvalidInput(field, f"is longer than {VALUE_MAX_BYTES}: keep an artifact, and its name here")
    return text


def to_bytes(text: str) -> bytes:
    """JSON text for a store that takes any bytes: lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def from_bytes(content: bytes) -> Any:
    """The value of such bytes."""
    return json.loads(content.decode("utf-8", "surrogatepass"))


def words_of(key: str, text: str) -> list[str]:
    """Different words of a key and of a value's JSON text, case folded and sorted."""
    return sorted(_words(f"{key} {_ESCAPE.sub(' ', text)}"))[:WORDS_MAX]


def words_in(question: str) -> list[str]:
    """Different words of a text that somebody asks for."""
    return sorted(_words(question))[:WORDS_MAX]


def share(question: list[str], found: list[str]) -> float:
    """The share of the question's words that were found."""
    there = set(found)
    return sum(word in there for word in question) / len(question) if question else 0.0


def to_record(row: Any) -> Record:
    """What an import reads.

    Raises:
        InvalidInput: It isn't a record; the message names the fields.
    """
    if isinstance(row, Record):
        return row
    if isinstance(row, Unusable):
        raise InvalidInput("value", row.reason)
    try:
        record = Record.model_validate(row.model_dump() if isinstance(row, Entry) else row)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InvalidInput("row", faults) from error
    for name in ("created_at", "expires_at"):
        time: datetime | None = getattr(record, name)
        if time is not None and time.tzinfo is None:
            raise InvalidInput(name, "has no time zone")
    return record


def _words(text: str) -> set[str]:
    return {word[:WORD_MAX] for word in _WORD.findall(text.casefold())}


def _check_text(text: str, *, field: str, max_bytes: int) -> str:
    named = f"{field} {_quoted(text)}"
    if not text:
        raise InvalidInput(field, "is empty")
    if "\x00" in text:
        raise InvalidInput(named, "has a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(named, "has half of a surrogate pair") from error
    if size > max_bytes:
        raise InvalidInput(named, f"has {size} bytes; {max_bytes} is the most")
    return text


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= _QUOTED_MAX else f"{text[:_QUOTED_MAX]}…")
