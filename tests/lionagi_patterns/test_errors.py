"""Which cause lionagi's error has for each fault: what our own errors are told apart by."""

# lionagi's own signatures leave much bare; what matters here is what happens at run time.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import socket

import httpx
import pytest
from lionagi._errors import ExecutionError
from lionagi.service.resilience import APIClientError
from stock_lionagi import ask, connected, raw_answer

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


def causes(error: BaseException) -> list[BaseException]:
    """The error's causes, outermost first."""
    found: list[BaseException] = []
    cause = error.__cause__
    while cause is not None:
        found.append(cause)
        cause = cause.__cause__
    return found


def client_error(error: BaseException) -> APIClientError:
    """The one that knows the status."""
    return next(cause for cause in causes(error) if isinstance(cause, APIClientError))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
async def test_a_refusal_keeps_its_status_and_body(provider: ScriptedProvider, status: int) -> None:
    """A 4xx raises with the status and the body in its cause; the outer error always says 500."""
    await provider.script([Rule(status=status)])

    async with connected(provider.url) as model:
        with pytest.raises(ExecutionError) as raised:
            await ask(model)

    found = client_error(raised.value)
    assert raised.value.status_code == 500
    assert found.status_code == status
    assert found.response_data == {"error": {"type": "scripted", "message": f"scripted {status}"}}


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_a_transient_error_keeps_its_headers_and_no_body(
    provider: ScriptedProvider, status: int
) -> None:
    """A 429 or 5xx keeps the status and `Retry-After`; its body is gone."""
    await provider.script([Rule(status=status, retry_after_s=7)])

    async with connected(provider.url) as model:
        with pytest.raises(ExecutionError) as raised:
            await ask(model)

    found = client_error(raised.value)
    assert (found.status_code, found.headers["retry-after"], found.response_data) == (status, "7", {})


async def test_an_error_that_comes_as_200_keeps_its_body() -> None:
    """A bare error in a 200 reply is an error with the status that it names, and with its body."""
    body = {"error": {"code": 503, "message": "overloaded"}}

    async with raw_answer(json.dumps(body).encode()) as url, connected(url) as model:
        with pytest.raises(ExecutionError) as raised:
            await ask(model)

    found = client_error(raised.value)
    assert (found.status_code, found.response_data) == (503, body)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(fault="hang"), httpx.ReadTimeout),
        (Rule(fault="drop"), httpx.TransportError),
        (Rule(reply="x" * 5000, fault="truncate"), httpx.RemoteProtocolError),
        (Rule(reply="x", fault="malformed"), json.JSONDecodeError),
    ],
    ids=["hang", "drop", "truncate", "malformed"],
)
async def test_a_broken_exchange_names_its_cause(
    provider: ScriptedProvider, rule: Rule, expected: type[Exception]
) -> None:
    """Time-outs, dropped connections and broken bodies are told apart by the cause."""
    await provider.script([rule])

    async with connected(provider.url, timeout=1) as model:
        with pytest.raises(ExecutionError) as raised:
            await ask(model)

    assert any(isinstance(cause, expected) for cause in causes(raised.value))


async def test_nobody_listening() -> None:
    """A refused connection is a ConnectError."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async with connected(url) as model:
            with pytest.raises(ExecutionError) as raised:
                await ask(model)

    assert any(isinstance(cause, httpx.ConnectError) for cause in causes(raised.value))


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.2:9", True), ("http://127.0.0.1:9", False), ("http://10.0.0.1:9", True)],
)
async def test_the_guard_lets_only_localhost_pass(url: str, local: bool) -> None:
    """Private addresses are refused without a request; `allow_local_network` frees localhost alone."""
    async with connected(url, allow_local_network=local) as model:
        with pytest.raises(ExecutionError) as raised:
            await ask(model)

    assert any(isinstance(cause, PermissionError) for cause in causes(raised.value))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
    ],
    ids=["null", "empty", "tool calls", "refusal"],
)
async def test_an_answer_without_text_is_silent(message: dict[str, object]) -> None:
    """Nothing is raised where there is no text: `''` comes back, and we look at the body ourselves."""
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "content_filter"}]}

    async with raw_answer(json.dumps(body).encode()) as url, connected(url) as model:
        assert not await ask(model)


async def test_an_empty_body_is_silent() -> None:
    """200 with no body at all is `''` too."""
    async with raw_answer(b"") as url, connected(url) as model:
        assert not await ask(model)
