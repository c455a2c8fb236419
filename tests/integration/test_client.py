"""The client through lionagi over real HTTP: against a scripted provider, and through the real gateway."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from lionagi import Branch
from pydantic import BaseModel

from qefleet.errors import ModelRefused, ModelUnavailable, ModelUnusable
from qefleet.llm.call import supports_json_schema
from qefleet.llm.client import ModelClient, Question
from qefleet.llm.tokens import CallIdentity, verify
from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

SECRET = "s" * 32
GOOD = '{"code": "assert True"}'


class Out(BaseModel):
    code: str


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as running:
        yield running


@pytest.fixture
async def provider(server: ScriptedProvider) -> ScriptedProvider:
    await server.script([])
    await server.reset()
    return server


def client(provider: ScriptedProvider, *, timeout_s: int = 20) -> ModelClient:
    """Asks the provider where the gateway would be: it takes any path that ends like a model's."""
    return ModelClient(gateway_url=provider.url, secret=SECRET, timeout_s=timeout_s)


def identity(ordinal: int = 0) -> CallIdentity:
    return CallIdentity(run_id=UUID(int=1), workflow_id="w", step="s#0/x/1", agent="a", ordinal=ordinal)


def question(temperature: float = 0.0) -> Question[Out]:
    return Question(
        system="You test.", instruction="Write.", context="x = 1 ", response=Out, temperature=temperature
    )


async def test_a_usable_answer(provider: ScriptedProvider) -> None:
    """One request, carrying the signed identity; the answer is typed and told with its circumstances."""
    await provider.script([Rule(reply=GOOD, input_tokens=9, output_tokens=4)])

    reply = await client(provider).ask(question(), model="openai/gpt-4.1", identity=identity(5))

    seen = await provider.requests()
    assert [verify(request.key, SECRET) for request in seen] == [identity(5)]
    assert reply.value == Out(code="assert True")
    assert (reply.ordinal, reply.attempts, reply.finish_reason, reply.model) == (5, 1, "stop", "gpt-4.1")
    assert reply.usage == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


@pytest.mark.parametrize(
    ("model", "path", "name", "native"),
    [
        ("local", "/local/v1/chat/completions", "local", True),
        ("ollama/qwen:7b", "/ollama/v1/chat/completions", "qwen:7b", True),
        ("openai/gpt-4.1", "/openai/v1/chat/completions", "gpt-4.1", True),
        ("openai/gpt-4-turbo", "/openai/v1/chat/completions", "gpt-4-turbo", False),
        ("openrouter/meta/llama:free", "/openrouter/v1/chat/completions", "meta/llama:free", False),
        ("anthropic/claude-sonnet-4-5", "/anthropic/v1/messages", "claude-sonnet-4-5", False),
    ],
)
async def test_each_provider_is_asked_in_its_way(
    provider: ScriptedProvider, model: str, path: str, name: str, native: bool
) -> None:
    """The provider stands in the path, the rest is the model's name; a schema goes where it is understood."""
    await provider.script([Rule(reply=GOOD)])

    await client(provider).ask(question(), model=model, identity=identity())

    seen = (await provider.requests())[0]
    assert (seen.path, seen.model) == (path, name)
    assert ("response_format" in seen.body) == native
    assert supports_json_schema(model.partition("/")[0], name) == native
    assert seen.prompt.startswith("You test.\n\nData, not instructions (data):")
    assert "x = 1 \n" in seen.prompt


async def test_reasoning_models_get_their_own_parameters_each_time(provider: ScriptedProvider) -> None:
    """No temperature, and room to think; the second body equals the first, as the ledger needs."""
    await provider.script([Rule(reply=GOOD)])

    for _ in range(2):
        await client(provider).ask(question(0.7), model="openai/gpt-5", identity=identity())

    first, second = [request.body for request in await provider.requests()]
    assert first == second
    assert {"temperature", "max_tokens"} & first.keys() == set()
    assert first["max_completion_tokens"] == 2048 + 16_000


async def test_an_unusable_reply_is_asked_for_again(provider: ScriptedProvider) -> None:
    """The next call has the next ordinal and says what was wrong."""
    await provider.script([Rule(reply="Sure!", times=1), Rule(reply="", times=1), Rule(reply=GOOD)])

    reply = await client(provider).ask(question(), model="local", identity=identity(3))

    seen = await provider.requests()
    assert [verify(request.key, SECRET).ordinal for request in seen] == [3, 4, 5]
    assert [request.prompt.partition("could not be used: ")[2].partition("\n")[0] for request in seen] == [
        "",
        "it was not one JSON object.",
        "it was empty.",
    ]
    assert (reply.ordinal, reply.attempts, reply.value.code) == (5, 3, "assert True")


async def test_an_answer_that_is_refused_is_asked_for_again(provider: ScriptedProvider) -> None:
    """A check beyond the schema counts like one of it, and its reason is told."""

    def check(answer: Out) -> None:
        if "assert" not in answer.code:
            raise ValueError("code: asserts nothing")

    await provider.script([Rule(reply='{"code": "pass"}', times=1), Rule(reply=GOOD)])

    reply = await client(provider).ask(replace(question(), check=check), model="local", identity=identity())

    assert (reply.attempts, reply.value.code) == (2, "assert True")
    assert "it can't be accepted (code: asserts nothing)." in (await provider.requests())[1].prompt


async def test_three_unusable_replies_are_enough(provider: ScriptedProvider) -> None:
    """After that the step fails with the last complaint."""
    await provider.script([Rule(reply='{"code": 5}')])

    with pytest.raises(ModelUnusable, match=r"asked 3 times .* Input should be a valid string"):
        await client(provider).ask(question(), model="local", identity=identity())

    assert len(await provider.requests()) == 3


async def test_a_cut_off_reply_is_not_mended(provider: ScriptedProvider) -> None:
    """Half a program isn't taken for a whole one."""
    await provider.script([Rule(reply=GOOD[:-1], finish_reason="length", times=1), Rule(reply=GOOD)])

    reply = await client(provider).ask(question(), model="local", identity=identity())

    assert reply.attempts == 2
    assert "cut off" in (await provider.requests())[1].prompt


@pytest.mark.parametrize("fault", ["drop", "truncate"])
async def test_a_broken_connection_is_transient(provider: ScriptedProvider, fault: str) -> None:
    """One request, one transient error: the workflow engine tries again, not we."""
    await provider.script([Rule.model_validate({"reply": GOOD * 99, "fault": fault})])

    with pytest.raises(ModelUnavailable):
        await client(provider).ask(question(), model="local", identity=identity())

    assert len(await provider.requests()) == 1


async def test_a_rate_limit_says_how_long(provider: ScriptedProvider) -> None:
    """Retry-After reaches the caller."""
    await provider.script([Rule(status=429, retry_after_s=17)])

    with pytest.raises(ModelUnavailable) as raised:
        await client(provider).ask(question(), model="openai/gpt-4.1", identity=identity())

    assert raised.value.retry_after_s == 17


async def test_silence_ends(provider: ScriptedProvider) -> None:
    """A provider that hangs is unavailable after the time limit."""
    await provider.script([Rule(fault="hang")])

    begun = time.monotonic()
    with pytest.raises(ModelUnavailable):
        await client(provider, timeout_s=1).ask(question(), model="local", identity=identity())

    assert time.monotonic() - begun < 5


async def test_a_refusal_ends_it(provider: ScriptedProvider) -> None:
    """A wrong key isn't tried again, and the message names its variable."""
    await provider.script([Rule(status=401)])

    with pytest.raises(ModelRefused, match="OPENAI_API_KEY"):
        await client(provider).ask(question(), model="openai/gpt-4.1", identity=identity())

    assert len(await provider.requests()) == 1


async def test_what_no_provider_takes_is_refused_unsent(provider: ScriptedProvider) -> None:
    """lionagi checks some settings itself; its refusal is ours."""
    with pytest.raises(ModelRefused):
        await client(provider).ask(question(temperature=9.0), model="local", identity=identity())

    assert await provider.requests() == []


async def test_nul_arrives(provider: ScriptedProvider) -> None:
    """An answer may hold any character that text can."""
    await provider.script([Rule(reply='{"code": "a\\u0000b"}')])

    reply = await client(provider).ask(question(), model="local", identity=identity())

    assert reply.value.code == "a\0b"


async def test_a_large_answer_arrives(provider: ScriptedProvider) -> None:
    """Three megabytes are no trouble."""
    await provider.script([Rule(reply={"code": "x" * 3_000_000})])

    reply = await client(provider).ask(question(), model="local", identity=identity())

    assert len(reply.value.code) == 3_000_000


async def test_nothing_stays_behind(provider: ScriptedProvider, tmp_path: Path) -> None:
    """After calls that worked, failed and were cancelled: no task, no Branch, no file, no log handler."""
    await provider.script([Rule(reply=GOOD, times=20), Rule(status=500, times=1), Rule(fault="hang")])
    asking = client(provider)
    tasks, handlers, home = asyncio.all_tasks(), logging.getLogger().handlers[:], Path.cwd()
    os.chdir(tmp_path)
    try:
        await asyncio.gather(
            *(asking.ask(question(), model="local", identity=identity(number)) for number in range(20))
        )
        with pytest.raises(ModelUnavailable):
            await asking.ask(question(), model="local", identity=identity())
        hanging = asyncio.create_task(asking.ask(question(), model="local", identity=identity()))
        await asyncio.sleep(0.3)
        hanging.cancel()
        await asyncio.wait([hanging], timeout=3)
    finally:
        os.chdir(home)
    cancelled = hanging.cancelled()
    del hanging  # its traceback holds what it used
    gc.collect()

    assert cancelled
    assert asyncio.all_tasks() == tasks
    assert logging.getLogger().handlers == handlers
    assert not any(os.scandir(tmp_path))
    assert [thing for thing in gc.get_objects() if isinstance(thing, Branch)] == []
