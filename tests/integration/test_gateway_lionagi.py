"""Stock lionagi on the gateway: nothing about it is changed but its base URL and its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gateway_process import KEY, GatewayProcess
from lionagi import iModel

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule


@pytest.mark.parametrize(
    ("provider_name", "model", "seen_path"),
    [
        ("openai", "gpt-4.1-mini", "/v1/chat/completions"),
        ("anthropic", "claude-haiku-4-5", "/v1/messages"),
    ],
)
async def test_stock_lionagi_is_served(
    database: str, tmp_path: Path, provider_name: str, model: str, seen_path: str
) -> None:
    """An iModel that is pointed at the gateway gets the provider's answer, bought with the gateway's key."""
    async with (
        ScriptedProvider([Rule(match="ping", reply="pong")]) as provider,
        GatewayProcess(database, provider.url, tmp_path / "log") as gateway,
    ):
        asked = iModel(
            provider=provider_name,
            model=model,
            base_url=f"{gateway.url}/{provider_name}/v1",
            api_key=gateway.token(),
            allow_local_network=True,
            requires_tokens=False,
            max_retries=1,
        )
        try:
            call: Any = await asked.invoke(messages=[{"role": "user", "content": "ping"}], max_tokens=20)  # pyright: ignore[reportUnknownMemberType] - lionagi leaves parameters bare
        finally:
            await asked.close()
        seen = await provider.requests()

    assert "pong" in str(call.response)
    assert [(request.path, request.key) for request in seen] == [(seen_path, KEY)]
