"""Reading providers' answers: complete or not, and how many tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qefleet.llm.metering import Tokens, output_bound, parse_object, read_answer, read_vectors
from qefleet.llm.upstream import Dialect
from qefleet.testing.script import Rule, events, whole

RULE = Rule(reply="héllo\x00", input_tokens=12, output_tokens=5)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_whole_answer_tells_its_tokens(dialect: Dialect) -> None:
    """Usage is read from a complete body in either dialect."""
    read = read_answer(dialect, whole(dialect, RULE, {"model": "m"}, "hi", 0), stream=False)

    assert read == (True, Tokens(12, 5))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_stream_tells_its_tokens(dialect: Dialect) -> None:
    """Usage is read from a stream's events in either dialect."""
    request = {"model": "m", "stream_options": {"include_usage": True}}
    read = read_answer(dialect, b"".join(events(dialect, RULE, request, "hi", 0)), stream=True)

    assert read == (True, Tokens(12, 5))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_half_a_stream_is_incomplete(dialect: Dialect) -> None:
    """A stream without its end mark is nobody's answer."""
    pieces = list(events(dialect, RULE, {"model": "m"}, "hi", 0))

    assert not read_answer(dialect, b"".join(pieces[:1]), stream=True).complete


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": [',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    """Broken JSON, other JSON and an error under status 200 are incomplete."""
    assert read_answer("openai", body, stream=False) == (False, None)


def test_cached_input_counts_as_input() -> None:
    """Anthropic tells cached input apart; it is input all the same."""
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 100,
        "output_tokens": 7,
    }
    body = json.dumps({"content": [], "usage": usage}).encode()

    assert read_answer("anthropic", body, stream=False).tokens == Tokens(111, 7)


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": "1"}, {"prompt_tokens": 1}])
def test_strange_usage_is_unknown(usage: Any) -> None:
    """An answer without a usable count is an answer all the same."""
    body = json.dumps({"choices": [], "usage": usage}).encode()

    assert read_answer("openai", body, stream=False) == (True, None)


@pytest.mark.parametrize(
    ("request_", "bound"),
    [
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 10, "n": 3}, 30),
        ({}, None),
        ({"max_tokens": "10"}, None),
    ],
)
def test_how_long_an_answer_can_be(request_: dict[str, Any], bound: int | None) -> None:
    """The request's own limit, times the answers that it asks for."""
    assert output_bound(request_, b"{}") == bound


def test_pictures_have_no_bound() -> None:
    """What a picture takes as input doesn't show in the request's size."""
    assert output_bound({"max_tokens": 10}, b'{"type": "image_url"}') is None


def test_a_lone_surrogate_is_json() -> None:
    """Models send them; the request is read nevertheless."""
    assert parse_object(b'{"a": "\\ud800"}') == {"a": "\ud800"}


@pytest.mark.parametrize(
    ("body", "reading"),
    [
        (b'{"data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}', (True, Tokens(7, 0))),
        (b'{"data": []}', (True, None)),
        (b'{"choices": []}', (False, None)),
        (b'{"data": "none"}', (False, None)),
        (b'{"data": [', (False, None)),
    ],
    ids=["whole", "untold", "chat", "no-list", "broken"],
)
def test_vectors_have_input_tokens_only(body: bytes, reading: tuple[bool, Tokens | None]) -> None:
    """What holds no list of them is nobody's answer."""
    assert read_vectors(body) == reading
