"""Where providers are, and with which key."""

from __future__ import annotations

import pytest

from qefleet.llm.upstream import OPERATIONS, load_upstreams


@pytest.mark.parametrize(
    ("environment", "provider", "url"),
    [
        ({}, "openai", "https://api.openai.com/v1/chat/completions"),
        ({"OPENAI_BASE_URL": "http://x/v1/"}, "openai", "http://x/v1/chat/completions"),
        ({}, "anthropic", "https://api.anthropic.com/v1/messages"),
        ({"ANTHROPIC_BASE_URL": "http://x"}, "anthropic", "http://x/v1/messages"),
        ({"ANTHROPIC_BASE_URL": "http://x/v1"}, "anthropic", "http://x/v1/messages"),
        ({}, "ollama", "http://localhost:11434/v1/chat/completions"),
        ({"OLLAMA_HOST": "gpu:99"}, "ollama", "http://gpu:99/v1/chat/completions"),
        ({"QE_LOCAL_MODEL_URL": "http://127.0.0.1:1"}, "local", "http://127.0.0.1:1/v1/chat/completions"),
    ],
)
def test_where_a_call_goes(environment: dict[str, str], provider: str, url: str) -> None:
    """Each provider's usual variable moves it, in the spelling of its own tools."""
    upstream = load_upstreams(environment)[provider]

    assert upstream.url(OPERATIONS[upstream.dialect][0]) == url


def test_each_dialect_carries_its_key() -> None:
    """OpenAI's as a bearer token, Anthropic's in its own header."""
    found = load_upstreams({"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"})

    assert found["openai"].credentials() == {"authorization": "Bearer a"}
    assert found["anthropic"].credentials() == {"anthropic-version": "2023-06-01", "x-api-key": "b"}


def test_a_key_is_missed_only_where_one_is_needed() -> None:
    """The usual address needs a key; a server of the user's own doesn't."""
    assert load_upstreams({})["openai"].key_variable == "OPENAI_API_KEY"
    assert load_upstreams({"OPENAI_BASE_URL": "http://x/v1"})["openai"].key_variable is None


def test_keys_are_not_shown() -> None:
    """Neither a printed upstream nor what a provider repeats contains the key."""
    upstream = load_upstreams({"OPENAI_API_KEY": "sk-1"})["openai"]

    assert "sk-1" not in repr(upstream)
    assert upstream.redact(b"bad key sk-1!") == b"bad key [key]!"
