"""The scripted provider, as its users meet it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

REPLIES = '''
def answer(prompt, request):
    """Answers by what is asked."""
    return prompt.upper() if "loud" in prompt else None
'''


@pytest.fixture(scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ScriptedProvider]:
    file = tmp_path_factory.mktemp("replies") / "replies.py"
    file.write_text(REPLIES)
    async with ScriptedProvider(replies=f"{file}:answer") as server:
        yield server


async def _ask(provider: ScriptedProvider, text: str) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    async with httpx.AsyncClient() as client:
        return await client.post(f"{provider.url}/v1/chat/completions", json=body)


async def test_the_first_matching_rule_answers(provider: ScriptedProvider) -> None:
    """Rules are tried in order, by pattern, number and how often they were used."""
    await provider.reset()
    await provider.script(
        [Rule(match="^x$", times=1, reply="one"), Rule(match="x", reply={"two": 2}), Rule(at=2, status=500)]
    )
    answers = [await _ask(provider, text) for text in ("x", "x", "y")]

    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers[:2]]
    assert texts == ["one", '{"two": 2}']
    assert answers[2].status_code == 500


async def test_a_function_answers_by_the_prompt(provider: ScriptedProvider) -> None:
    """Where no rule has a reply the loaded function is asked."""
    await provider.script([])
    answer = await _ask(provider, "be loud")

    assert answer.json()["choices"][0]["message"]["content"] == "BE LOUD"


async def test_the_unexpected_is_refused(provider: ScriptedProvider) -> None:
    """A prompt that nothing answers is a 503, and is counted."""
    await provider.reset()
    await provider.script([])
    answer = await _ask(provider, "quiet")

    assert answer.status_code == 503
    assert [(seen.prompt, seen.model) for seen in await provider.requests()] == [("quiet", "m")]


async def test_waiting_for_requests_ends() -> None:
    """Waiting for a request that never comes ends with an error."""
    async with ScriptedProvider() as server:
        with pytest.raises(TimeoutError):
            await server.arrived(timeout_s=0.1)
