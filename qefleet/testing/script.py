"""What a scripted provider answers: rules, in order, and the provider-shaped bodies that they become."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from qefleet.contracts.base import Model

Dialect = Literal["openai", "anthropic"]
DIMENSIONS = 64
"""Of the vectors that it makes."""

Replies = Callable[[str, dict[str, Any]], str | None]
"""Answers by what is asked: the prompt's text and the whole request in, the reply's text out, or None."""


class Rule(Model):
    """What to do with the requests that it matches. The first matching rule is taken."""

    match: str = ""
    """Regular expression, searched in the text of all messages; the empty one finds itself everywhere."""
    at: int | None = None
    """Only the request of this number, counted from 0 since the last reset."""
    times: Annotated[int, Field(ge=1)] | None = None
    """Only so many requests; afterwards the next matching rule is taken."""
    reply: str | dict[str, Any] | None = None
    """Text of the reply; an object is sent as JSON text, and for embeddings as the body. None: ask the reply
    function."""
    finish_reason: str = "stop"
    input_tokens: int | None = None
    output_tokens: int | None = None
    """A quarter of the text's characters where they aren't given."""
    status: int = 200
    retry_after_s: int | None = None
    latency_s: float = 0
    """Before the first byte."""
    chunk_pause_s: float = 0
    """Between the pieces of a streamed reply."""
    fault: Literal["hang", "drop", "truncate", "malformed"] | None = None
    """Never answer; close without a byte; close in mid-body; send 200 with broken JSON."""


class Refusal(Exception):
    """No rule says what to answer."""


class Script:
    """Rules with their counts.

    Args:
        rules: Tried in order.
        replies: Asked where the rule has no reply, or no rule matches.
    """

    def __init__(self, rules: list[Rule], *, replies: Replies | None = None) -> None:
        self.rules = rules
        self._replies = replies
        self._used = [0] * len(rules)

    def take(self, number: int, prompt: str, request: dict[str, Any]) -> Rule:
        """The rule for a request, with its reply filled in.

        Raises:
            Refusal: Nothing matches: a test that asks what it didn't expect is to fail.
        """
        rule = self._first(number, prompt)
        if "input" in request:  # vectors follow from the texts alone
            return rule or Rule()
        if rule is None and self._replies is None:
            raise Refusal("no rule matches this prompt")
        rule = rule or Rule()
        if rule.reply is not None or rule.status >= 300 or rule.fault in {"hang", "drop"}:  # noqa: PLR2004
            return rule
        reply = self._replies(prompt, request) if self._replies else None
        if reply is None:
            raise Refusal("the matching rule has no reply")
        return rule.model_copy(update={"reply": reply})

    def _first(self, number: int, prompt: str) -> Rule | None:
        for index, rule in enumerate(self.rules):
            spent = rule.times is not None and self._used[index] >= rule.times
            if spent or rule.at not in {None, number} or not re.search(rule.match, prompt):
                continue
            self._used[index] += 1
            return rule
        return None


def prompt_of(request: Mapping[str, Any]) -> str:
    """All text that the model would read, in order."""
    parts = [
        request.get("system"),
        request.get("input"),
        *(message.get("content") for message in request.get("messages", [])),
    ]
    return "\n\n".join(_texts(parts))


def whole(dialect: Dialect, rule: Rule, request: Mapping[str, Any], prompt: str, number: int) -> bytes:
    """A complete reply in the provider's shape."""
    if "input" in request:
        return _vectors(rule, request, prompt)
    text, model = _text(rule), request.get("model")
    given, made = _tokens(rule, prompt)
    if dialect == "anthropic":
        body: dict[str, Any] = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": _STOP_REASONS.get(rule.finish_reason, rule.finish_reason),
            "usage": {"input_tokens": given, "output_tokens": made},
        }
    else:
        body = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": rule.finish_reason,
                }
            ],
            "usage": {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made},
        }
    # ASCII only, so that NUL and lone surrogates go out as escapes, as real providers send them.
    return json.dumps(body).encode()


def events(
    dialect: Dialect, rule: Rule, request: Mapping[str, Any], prompt: str, number: int
) -> Iterator[bytes]:
    """The same reply as server-sent events."""
    text, model = _text(rule), request.get("model")
    given, made = _tokens(rule, prompt)
    pieces = [text[start : start + 16] for start in range(0, len(text), 16)]
    if dialect == "anthropic":
        usage = {"input_tokens": given, "output_tokens": 1}
        message: dict[str, Any] = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "content": [],
        }
        yield _event({"type": "message_start", "message": message | {"model": model, "usage": usage}})
        for piece in pieces:
            yield _event(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            )
        stop = _STOP_REASONS.get(rule.finish_reason, rule.finish_reason)
        yield _event(
            {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": made}}
        )
        yield _event({"type": "message_stop"})
        return
    chunk: dict[str, Any] = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "model": model}
    for piece in pieces:
        yield _event(chunk | {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
    yield _event(chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": rule.finish_reason}]})
    options: dict[str, Any] = request.get("stream_options") or {}
    if options.get("include_usage"):
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        yield _event(chunk | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def vector_of(text: str) -> list[float]:
    """A text's embedding: how often it has words of each of 64 kinds. Common words bring texts near."""
    kinds = [
        hashlib.sha256(word.encode()).digest()[0] % DIMENSIONS for word in re.findall(r"\w+", text.lower())
    ]
    return [float(kinds.count(kind)) for kind in range(DIMENSIONS)]


def _vectors(rule: Rule, request: Mapping[str, Any], prompt: str) -> bytes:
    if isinstance(rule.reply, dict):
        return json.dumps(rule.reply).encode()
    given, _ = _tokens(rule, prompt)
    data = [
        {"object": "embedding", "index": index, "embedding": vector_of(text)}
        for index, text in enumerate(_texts(request["input"]))
    ]
    usage = {"prompt_tokens": given, "total_tokens": given}
    # Not in order: the index says which is whose.
    return json.dumps(
        {"object": "list", "model": request.get("model"), "data": data[::-1], "usage": usage}
    ).encode()


_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def _event(data: dict[str, Any]) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _text(rule: Rule) -> str:
    return json.dumps(rule.reply) if isinstance(rule.reply, dict) else rule.reply or ""


def _tokens(rule: Rule, prompt: str) -> tuple[int, int]:
    given = len(prompt) // 4 if rule.input_tokens is None else rule.input_tokens
    return given, len(_text(rule)) // 4 if rule.output_tokens is None else rule.output_tokens


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        yield from _texts(part.get("text"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - parsed JSON
    elif isinstance(part, list):
        for item in part:  # pyright: ignore[reportUnknownVariableType] - parsed JSON
            yield from _texts(item)
