"""What a Branch keeps, shares, leaves behind and writes."""

# lionagi's own signatures leave much bare; what matters here is what happens at run time.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

from lionagi import Branch
from lionagi.ln.concurrency import utils as lionagi_utils
from stock_lionagi import NO_LOG, ask, branch, connected

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


async def test_branches_share_nothing(provider: ScriptedProvider) -> None:
    """Two Branches on one model have their own system prompt and turns; neither sees the other's."""
    await provider.script([Rule(match="red", reply="apple"), Rule(match="blue", reply="sky")])

    async with connected(provider.url) as model:
        one, two = branch(model, "First."), branch(model, "Second.")
        await asyncio.gather(
            one.communicate(instruction="red", skip_validation=True),
            two.communicate(instruction="blue", skip_validation=True),
        )

    assert sorted(request.prompt for request in await provider.requests()) == [
        "Guidance: First.\nInstruction: red",
        "Guidance: Second.\nInstruction: blue",
    ]
    assert [kept.msgs.last_response and kept.msgs.last_response.response for kept in (one, two)] == [
        "apple",
        "sky",
    ]
    assert not set(one.messages.progression) & set(two.messages.progression)


async def test_the_last_response_holds_the_provider_s_own_json(provider: ScriptedProvider) -> None:
    """Usage, finish reason and the model's name are read from there."""
    await provider.script([Rule(reply="fine", finish_reason="length", input_tokens=5, output_tokens=3)])

    async with connected(provider.url) as model:
        used = branch(model)
        await used.communicate(instruction="Hello.", skip_validation=True)

    last = used.msgs.last_response
    assert last is not None
    answer = last.model_response
    assert isinstance(answer, dict)
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["model"] == "some-model"


async def test_a_restored_branch_needs_its_system_prompt_set_again(provider: ScriptedProvider) -> None:
    """A round trip keeps the turns and loses the system prompt until it is set from its message."""
    await provider.script([Rule(reply="fine")])

    async with connected(provider.url) as model:
        used = branch(model, "You test.")
        await used.communicate(instruction="Hello.", skip_validation=True)
        restored = Branch.from_dict(used.to_dict(mode="json"))
        lost = restored.system
        first = restored.messages[restored.messages.progression[0]]
        restored.msgs.system = first  # pyright: ignore[reportAttributeAccessIssue] - a System message

    assert lost is None
    assert [message.rendered for message in restored.messages] == [
        message.rendered for message in used.messages
    ]
    assert restored.system is not None
    assert restored.system.rendered == "You test."


async def test_a_branch_s_dictionary_holds_no_token(provider: ScriptedProvider) -> None:
    """What may be stored of a Branch doesn't tell the capability that it was used with."""
    async with connected(provider.url) as model:
        assert "the-token" not in str(branch(model).to_dict(mode="json"))


async def test_branches_leak_until_the_cache_is_cleared(provider: ScriptedProvider) -> None:
    """lionagi's own cache holds every Branch; after clearing it a hundred used ones are gone."""
    await provider.script([Rule(reply="fine")])

    async def use() -> weakref.ref[Branch]:
        used = branch(model)
        await used.communicate(instruction="Hello.", skip_validation=True)
        return weakref.ref(used)

    async with connected(provider.url) as model:
        alive = [await use() for _ in range(100)]
    gc.collect()
    before = sum(ref() is not None for ref in alive)
    lionagi_utils._is_coro_func_cached.cache_clear()  # pyright: ignore[reportPrivateUsage] - what our calls do too
    gc.collect()

    assert before > 0
    assert sum(ref() is not None for ref in alive) == 0


async def test_a_closed_model_leaves_no_task(provider: ScriptedProvider) -> None:
    """Closing an iModel ends the task that it started, also after a call that failed."""
    await provider.script([Rule(match="fails", status=500), Rule(reply="fine")])
    before = asyncio.all_tasks()

    async with connected(provider.url) as model:
        await ask(model)
        during = asyncio.all_tasks() - before

    assert len(during) == 1
    assert asyncio.all_tasks() == before


async def test_cancelling_ends_the_call_at_once(provider: ScriptedProvider) -> None:
    """A cancelled call is gone within two seconds, and leaves no task behind."""
    await provider.script([Rule(fault="hang")])
    before = asyncio.all_tasks()

    async with connected(provider.url, timeout=60) as model:
        call = asyncio.create_task(ask(model))
        await asyncio.sleep(0.5)
        call.cancel()
        async with asyncio.timeout(2):
            await asyncio.gather(call, return_exceptions=True)

    assert call.cancelled()
    assert asyncio.all_tasks() == before


def test_importing_a_provider_configures_logging() -> None:
    """lionagi gives the root logger a handler when it is first used; our calls undo that."""
    code = """
        import logging
        from lionagi import iModel
        iModel(provider="anthropic", endpoint="chat", model="m", api_key="k")
        print(len(logging.getLogger().handlers))
    """

    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "1"


def test_nothing_is_written_to_the_working_directory(provider: ScriptedProvider, tmp_path: Path) -> None:
    """With our log_config a process that used a Branch leaves no file; the default leaves prompts."""
    code = f"""
        import asyncio
        from lionagi import Branch, iModel
        async def main():
            for log in ({NO_LOG!r}, None):
                model = iModel(provider="openai", endpoint="chat", model="m", api_key="k", max_retries=1,
                    base_url="{provider.url}/v1", allow_local_network=True, requires_tokens=False)
                branch = Branch(chat_model=model, log_config=log)
                try:
                    await branch.communicate(instruction="Hello.", skip_validation=True)
                except Exception:
                    pass
                await model.close()
                if log is None:
                    open("marker", "w").close()
        asyncio.run(main())
    """

    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, check=True
    )

    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["marker"]
    assert len(list((tmp_path / "data").rglob("*.json"))) == 1


def test_logging_here_is_untouched() -> None:
    """This very process uses lionagi all the time, and its root logger has pytest's handlers only."""
    names = {type(handler).__module__.split(".")[0] for handler in logging.getLogger().handlers}

    assert names <= {"_pytest"}
