"""Vectors by a provider's model: asked through the gateway, which has the keys, the ledger and the prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

import httpx
from pydantic import BaseModel, ValidationError

from qefleet.errors import ModelRefused, ModelUnavailable, ModelUnusable
from qefleet.llm.call import LOCAL_HOSTS
from qefleet.llm.tokens import CallIdentity, mint
from qefleet.llm.upstream import EMBEDDINGS

WORKFLOW_ID = "qe-memory"
"""Under which the ledger has the calls: they belong to no run."""
BATCH = 64
TEXT_BYTES = 8_000
"""Of one text. A token has at least a byte, and models take some 8,000 tokens."""
TIMEOUT_S = 120.0
_LATER = frozenset({408, 409, 425, 429})
_SHOWN = 300


class ProviderEmbedder:
    """An `Embedder` of as many dimensions as the model has.

    The same texts of the same project are one call: they are paid once, and answered from the ledger
    afterwards.

    Args:
        model: `provider/name`, such as `openai/text-embedding-3-small`.
        gateway_url: Where the gateway listens; None where none runs.
        secret: Signs the capability (`QE_GATEWAY_SECRET`).
        project: Whose memory it is for.
    """

    def __init__(self, model: str, *, gateway_url: str | None, secret: str | None, project: str) -> None:
        self.model = model
        self._gateway_url = gateway_url
        self._secret = secret
        self._project = project

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 for each text.

        Raises:
            ModelRefused: The gateway or the provider refuses for good.
            ModelUnavailable: No answer now.
            ModelUnusable: An answer that holds other vectors than those that were asked for.
        """
        if self._gateway_url is None or self._secret is None:
            raise ModelUnavailable(
                f"{self.model} is asked through the gateway, and none is known here: `qe up` starts one, "
                "QE_GATEWAY_URL with QE_GATEWAY_SECRET names another"
            )
        on_this_machine = urlsplit(self._gateway_url).hostname in LOCAL_HOSTS
        found: list[list[float]] = []
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=not on_this_machine) as client:
            for first in range(0, len(texts), BATCH):
                found += await self._ask(
                    client, self._secret, [_cut(text) for text in texts[first : first + BATCH]]
                )
        return found

    async def _ask(self, client: httpx.AsyncClient, secret: str, texts: list[str]) -> list[list[float]]:
        provider, _, name = self.model.partition("/")
        who = CallIdentity(
            run_id=uuid5(NAMESPACE_URL, f"qe memory of {self._project}"),
            workflow_id=WORKFLOW_ID,
            step=f"recall/{self._project}",
            agent="memory",
        )
        try:
            response = await client.post(
                f"{self._gateway_url}/{provider}/v1/{EMBEDDINGS}",
                json={"model": name, "input": texts},
                headers={"authorization": f"Bearer {mint(who, secret)}"},
            )
        except httpx.TransportError as error:
            raise ModelUnavailable(
                f"the gateway can't be reached ({type(error).__name__}): is `qe up` running?"
            ) from error
        if not response.is_success:
            message = f"{self.model} makes no vectors (HTTP {response.status_code}): {_words(response)}"
            later = response.status_code in _LATER or response.is_server_error
            raise (ModelUnavailable if later else ModelRefused)(message)
        return _vectors(response.content, len(texts), self.model)


class _Vector(BaseModel):
    index: int
    embedding: list[float]


class _Vectors(BaseModel):
    data: list[_Vector]


def _vectors(body: bytes, count: int, model: str) -> list[list[float]]:
    try:
        data = sorted(_Vectors.model_validate_json(body).data, key=lambda vector: vector.index)
    except ValidationError as error:
        raise ModelUnusable(f"{model} sent no vectors: is it a model for embeddings?") from error
    dimensions = {len(vector.embedding) for vector in data}
    if [vector.index for vector in data] != list(range(count)) or len(dimensions) != 1 or 0 in dimensions:
        raise ModelUnusable(f"{model} sent other vectors than those that were asked for")
    return [_of_length_one(vector.embedding) for vector in data]


def _of_length_one(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [part / length for part in vector] if length else vector


def _cut(text: str) -> str:
    """What providers take: neither too long, nor empty, nor half a character."""
    return text.encode(errors="replace")[:TEXT_BYTES].decode(errors="ignore") or " "


def _words(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:_SHOWN]
    except (ValueError, KeyError, TypeError):
        return response.text[:_SHOWN] or "it doesn't say why"
