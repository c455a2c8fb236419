"""What is in a provider's answer: whether it is one, and how many tokens it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from qefleet.llm.upstream import Dialect


class Tokens(NamedTuple):
    """As the provider counted them, cached input included."""

    input: int
    output: int


class Reading(NamedTuple):
    """A 2xx body, read."""

    complete: bool
    """False where it is nobody's answer: broken JSON, an error under status 200, a stream without its end."""
    tokens: Tokens | None
    """None where the provider didn't tell."""


def read_answer(dialect: Dialect, body: bytes, *, stream: bool) -> Reading:
    """Read the body of a 2xx response."""
    return _read_stream(dialect, body) if stream else _read_whole(dialect, body)


def read_vectors(body: bytes) -> Reading:
    """Read the body of a 2xx response to a call for embeddings, which have no output tokens."""
    found = parse_object(body)
    if found is None or not isinstance(found.get("data"), list):
        return Reading(complete=False, tokens=None)
    given = _object(found.get("usage")).get("prompt_tokens")
    return Reading(complete=True, tokens=Tokens(given, 0) if isinstance(given, int) else None)


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """A JSON object, or None where the bytes are something else.

    The standard library's parser on purpose: Pydantic's refuses lone surrogates, which models do send.
    """
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, nested without end
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def output_bound(request: dict[str, Any], body: bytes) -> int | None:
    """The most tokens that an answer to this request can have; None where the request sets no limit."""
    if b'"image' in body or b'"file"' in body or b'"input_audio"' in body:
        return None  # what these take as input isn't bounded by the request's size either
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    choices = request.get("n") or 1
    return limit * choices if isinstance(limit, int) and isinstance(choices, int) else None


def _read_whole(dialect: Dialect, body: bytes) -> Reading:
    found = parse_object(body)
    if found is None or ("content" if dialect == "anthropic" else "choices") not in found:
        return Reading(complete=False, tokens=None)
    return Reading(complete=True, tokens=_tokens(dialect, _object(found.get("usage"))))


def _read_stream(dialect: Dialect, body: bytes) -> Reading:
    usage: dict[str, Any] = {}
    complete = False
    for data in _events(body):
        if dialect == "anthropic":
            usage |= _object(_object(data.get("message")).get("usage")) | _object(data.get("usage"))
            complete = complete or data.get("type") == "message_stop"
        else:
            usage |= _object(data.get("usage"))
            # Not every compatible server sends the closing [DONE]; a finish reason is as good.
            choices: list[Any] = data.get("choices") or []
            complete = complete or "done" in data or any(_object(one).get("finish_reason") for one in choices)
    return Reading(complete=complete, tokens=_tokens(dialect, usage))


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        payload = line.removeprefix(b"data:").strip()
        if payload == b"[DONE]":
            yield {"done": True}
            continue
        # Anything else is a keep-alive or a vendor's extra: the end mark tells whether the stream is whole.
        if (data := parse_object(payload)) is not None:
            yield data


def _tokens(dialect: Dialect, usage: dict[str, Any]) -> Tokens | None:
    if dialect == "anthropic":
        given = [usage.get(name) for name in _ANTHROPIC_INPUT]
        made = usage.get("output_tokens")
    else:
        given, made = [usage.get("prompt_tokens")], usage.get("completion_tokens")
    if not isinstance(made, int) or not isinstance(given[0], int):
        return None
    return Tokens(input=sum(part for part in given if isinstance(part, int)), output=made)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


_ANTHROPIC_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
