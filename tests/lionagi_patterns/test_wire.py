"""What lionagi puts on the wire, and how often."""

# lionagi's own signatures leave much bare; what matters here is what happens at run time.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import re
from typing import Any

import pytest
from lionagi._errors import LionError
from pydantic import BaseModel
from stock_lionagi import ask, branch, connected

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


class Out(BaseModel):
    tests: str


async def test_an_answer_takes_one_request(provider: ScriptedProvider) -> None:
    """A call that works is one HTTP request, and its text comes back as it was written."""
    await provider.script([Rule(reply="fine")])

    async with connected(provider.url) as model:
        answer = await ask(model)

    assert answer == "fine"
    assert len(await provider.requests()) == 1


@pytest.mark.parametrize(
    "rule",
    [
        Rule(status=500),
        Rule(status=429),
        Rule(status=400),
        Rule(fault="drop"),
        Rule(reply="x", fault="malformed"),
    ],
    ids=["500", "429", "400", "drop", "malformed"],
)
async def test_a_failure_takes_one_request(provider: ScriptedProvider, rule: Rule) -> None:
    """With `max_retries=1` a failing call is one HTTP request, and raises."""
    await provider.script([rule])

    async with connected(provider.url) as model:
        with pytest.raises((LionError, ValueError)):
            await ask(model)

    assert len(await provider.requests()) == 1


async def test_max_retries_counts_all_attempts(provider: ScriptedProvider) -> None:
    """Two means two requests in all; the default, three, is what our setting is there for."""
    await provider.script([Rule(status=500)])

    async with connected(provider.url, max_retries=2) as model:
        with pytest.raises(LionError):
            await ask(model)

    assert len(await provider.requests()) == 2


async def test_prose_is_not_asked_for_again(provider: ScriptedProvider) -> None:
    """With `skip_validation` a reply that doesn't parse stays one request and comes back as it is."""
    await provider.script([Rule(reply="I would rather not.")])

    async with connected(provider.url) as model:
        answer = await ask(model, response_format=Out)

    assert answer == "I would rather not."
    assert len(await provider.requests()) == 1


async def test_openai_request(provider: ScriptedProvider) -> None:
    """Path, bearer token and body are exactly these; the native schema passes through."""
    await provider.script([Rule(reply="fine")])
    native = {"type": "json_schema", "json_schema": {"name": "Out", "schema": Out.model_json_schema()}}

    async with connected(provider.url, max_tokens=7, temperature=0.0, response_format=native) as model:
        await ask(model, "Write a test.")

    seen = (await provider.requests())[0]
    assert (seen.path, seen.key) == ("/openai/v1/chat/completions", "the-token")
    assert seen.body == {
        "model": "some-model",
        "max_tokens": 7,
        "temperature": 0.0,
        "response_format": native,
        "messages": [{"role": "user", "content": "Write a test."}],
    }


async def test_anthropic_request(provider: ScriptedProvider) -> None:
    """Anthropic's path and `x-api-key`; a system given with the turn becomes its native system block."""
    await provider.script([Rule(reply="fine")])

    async with connected(provider.url, "anthropic", max_tokens=7) as model:
        answer = await ask(model, "Write a test.", system="You test.")

    seen = (await provider.requests())[0]
    assert answer == "fine"
    assert (seen.path, seen.key) == ("/anthropic/v1/messages", "the-token")
    assert seen.body == {
        "model": "some-model",
        "max_tokens": 7,
        "system": "You test.",
        "messages": [{"role": "user", "content": "Write a test."}],
    }


async def test_equal_turns_have_equal_bodies(provider: ScriptedProvider) -> None:
    """The ledger's key holds the body: two fresh Branches with the same input send the same."""
    await provider.script([Rule(reply="fine")])

    for _ in range(2):
        async with connected(provider.url, max_tokens=7) as model:
            await ask(model, "Write a test.")

    first, second = await provider.requests()
    assert first.body == second.body


async def test_plain_content_leaves_the_system_prompt_out(provider: ScriptedProvider) -> None:
    """Plain content goes out alone and byte for byte, so that we put the system prompt into it."""
    await provider.script([Rule(reply="fine")])
    text = "def f():  \n\treturn 'ä'\n"

    async with connected(provider.url) as model:
        await ask(model, text)

    assert (await provider.requests())[0].prompt == text


async def test_an_instruction_is_folded_and_mangled(provider: ScriptedProvider) -> None:
    """Without plain content the system prompt is folded in; a blank at a line's end quotes all the code."""
    await provider.script([Rule(reply="fine")])

    async with connected(provider.url) as model:
        for code in ("x = 1\ny = 2", "x = 1 \ny = 2"):
            await branch(model).communicate(instruction=code, skip_validation=True)

    clean, mangled = [request.prompt for request in await provider.requests()]
    assert clean == "Guidance: You test.\nInstruction: |-\n  x = 1\n  y = 2"
    assert mangled == 'Guidance: You test.\nInstruction: "x = 1 \\ny = 2"'


async def test_a_slow_answer_is_waited_for(provider: ScriptedProvider) -> None:
    """An answer that takes longer than the ten seconds that lionagi waits for its queue still arrives."""
    await provider.script([Rule(reply="late", latency_s=10.5)])

    async with connected(provider.url, timeout=30) as model:
        assert await ask(model) == "late"


async def test_reasoning_models_lose_their_temperature_once(provider: ScriptedProvider) -> None:
    """lionagi drops a reasoning model's temperature from some calls only, so we never send one."""
    await provider.script([Rule(reply="fine")])

    bodies: list[dict[str, Any]] = []
    for _ in range(3):
        async with connected(provider.url, model="gpt-5", temperature=0.5) as model:
            await ask(model)
    bodies = [request.body for request in await provider.requests()]

    assert [body.get("temperature") for body in bodies[1:]] == [0.5, 0.5]


async def test_model_names_with_slashes_pass_through(provider: ScriptedProvider) -> None:
    """A name like OpenRouter's arrives whole, since the provider is given beside it."""
    await provider.script([Rule(reply="fine")])

    async with connected(provider.url, model="meta-llama/llama-3-70b:free") as model:
        await ask(model)

    seen = (await provider.requests())[0]
    assert seen.model == "meta-llama/llama-3-70b:free"
    assert re.fullmatch(r"/openai/v1/chat/completions", seen.path)
