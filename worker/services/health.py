"""Health checks over HTTP."""

from __future__ import annotations

from http import HTTPStatus

import httpx

_ONE_LOOK_S = 3.0


async def answers(url: str) -> bool:
    """Whether a GET is answered with 200 now."""
    async with httpx.AsyncClient(trust_env=False, timeout=_ONE_LOOK_S) as client:
        try:
            return (await client.get(url)).status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False
