"""One model call through lionagi, and nothing hidden in it: one HTTP request, no repair, no files, no leaks.

The only module that knows lionagi's ways. What each setting is there for is pinned against a real HTTP
server in `tests/lionagi_patterns`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lionagi import Branch, iModel
from lionagi._errors import LionError  # no public name; the base of what a Branch raises
from lionagi.ln.concurrency import utils as lionagi_utils
from lionagi.protocols.messages import AssistantResponse, Instruction
from lionagi.protocols.messages.assistant_response import AssistantResponseContent
from lionagi.protocols.messages.instruction import InstructionContent

from qefleet.errors import ModelUnavailable
from qefleet.llm.outcome import RawReply, raw_reply, translated
from qefleet.llm.question import Message

NO_LOG: dict[str, Any] = {"auto_save_on_exit": False, "capacity": None}
"""For each Branch: the default writes prompts and replies to ./data/logs."""
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})  # what lionagi's allow_local_network permits
_REASONING_TOKENS = 16_000
"""What models that think aloud may use for that beyond the answer's own limit."""
REASONING_MODELS = ("o1", "o3", "o4", "gpt-5", "gpt-6")
_WITHOUT_JSON_SCHEMA = ("gpt-3.5", "gpt-4-", "o1-mini", "o1-preview", "chatgpt-4o")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, as it goes on the wire.

    Args:
        gateway_url: Where the gateway listens. On plain HTTP lionagi reaches `localhost`, `127.0.0.1` and
            `::1` only, whatever a name resolves to: in compose the worker shares the gateway's network
            namespace. A gateway elsewhere needs a public address.
        token: The capability that stands where a provider's key would.
        model: `provider/name`, or `local`.
    """

    gateway_url: str
    token: str
    model: str
    system: str
    text: str
    max_output_tokens: int
    temperature: float
    schema: Mapping[str, Any]
    schema_name: str
    native_schema: bool | None
    timeout_s: int
    past: Sequence[Message] = ()
    """What was said before on the Branch."""


async def call_model(call: Call) -> RawReply:
    """Ask once.

    Raises:
        BudgetExceeded: The gateway refuses: the run has spent its budget.
        ModelRefused: The provider refuses for good.
        ModelUnavailable: No answer now.
        UnusableReplyError: An answer that isn't one came; the same call would get it from the ledger again.
    """
    provider, _, name = call.model.partition("/")
    try:
        async with asyncio.timeout(call.timeout_s):
            body = await _ask_branch(call, provider, name or provider)
    except TimeoutError as error:
        raise ModelUnavailable(f"{provider} gave no answer within {call.timeout_s} s") from error
    except (LionError, ValueError) as error:
        raise translated(error, provider) from error
    return raw_reply(body, provider)


def supports_json_schema(provider: str, name: str) -> bool:
    """Whether the provider is known to constrain an answer by a JSON Schema.

    llama.cpp and Ollama do for any model; OpenAI since gpt-4o and o1. Others are asked in prose.
    """
    if provider == "openai":
        return name != "gpt-4" and not name.startswith(_WITHOUT_JSON_SCHEMA)
    return provider in ("local", "ollama")


async def _ask_branch(call: Call, provider: str, name: str) -> Any:
    """One turn of a fresh Branch; the provider's JSON as it came."""
    with untouched_logging():
        model = _model(call, provider, name)
        branch = Branch(
            system=call.system,
            chat_model=model,
            log_config=NO_LOG,
            messages=[_message(one) for one in call.past] or None,  # pyright: ignore[reportArgumentType] - as Branch.clone gives them
        )
    # As plain content: else lionagi renders the text as YAML, which turns source code with a blank at the
    # end of a line into one quoted line full of escapes. The system part is left out of plain content.
    if provider == "anthropic":
        text, native = call.text, {"system": call.system}
    else:
        text, native = f"{call.system}\n\n{call.text}", {}
    extra: dict[str, Any] = native
    try:
        await branch.communicate(  # pyright: ignore[reportUnknownMemberType] - lionagi leaves parameters bare
            instruction=call.text, plain_content=text, skip_validation=True, **extra
        )
        last = branch.msgs.last_response
        return last.model_response if last else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
    finally:
        await model.close()  # else its replenisher task stays
        forget_branches()


def _message(said: Message) -> Instruction | AssistantResponse:
    if said.role == "user":
        content = InstructionContent.from_dict({"plain_content": said.text})
        return Instruction(content=content)  # pyright: ignore[reportCallIssue] - the rest has defaults
    reply = AssistantResponseContent.from_dict({"assistant_response": said.text})
    return AssistantResponse(content=reply)  # pyright: ignore[reportCallIssue] - the rest has defaults


def _model(call: Call, provider: str, name: str) -> iModel:
    native = supports_json_schema(provider, name) if call.native_schema is None else call.native_schema
    settings: dict[str, Any] = {}
    if provider == "openai" and name.startswith(REASONING_MODELS):
        # These refuse a temperature. lionagi drops it on a process's first call only (its list of such models
        # is a generator that is used up), so that the same call would differ the second time.
        settings["max_completion_tokens"] = call.max_output_tokens + _REASONING_TOKENS
    else:
        settings["max_tokens"] = call.max_output_tokens
        settings["temperature"] = call.temperature
    if native and provider != "anthropic":
        settings["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": call.schema_name, "schema": dict(call.schema)},
        }
    return iModel(
        provider="anthropic" if provider == "anthropic" else "openai",
        endpoint="chat",
        model=name,
        base_url=f"{call.gateway_url.rstrip('/')}/{provider}/v1",
        api_key=call.token,
        allow_local_network=urlsplit(call.gateway_url).hostname in LOCAL_HOSTS,
        requires_tokens=False,  # else it downloads a vocabulary, on the event loop
        max_retries=1,  # counts all attempts: the workflow engine retries
        timeout=call.timeout_s,
        queue_capacity=10_000,  # a full queue gives '' after 10 s
        **settings,
    )


def forget_branches() -> None:
    """Empty lionagi's unbounded cache that holds every Branch ever used."""
    lionagi_utils._is_coro_func_cached.cache_clear()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - it has no other way


@contextmanager
def untouched_logging() -> Generator[None]:
    """Undo what lionagi's providers do to the root logger when they are first used."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
