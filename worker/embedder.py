"""What makes vectors of what is remembered, by `QE_EMBEDDINGS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qefleet.llm.embeddings import ProviderEmbedder
from qefleet.memory.minilm import find_minilm
from worker.services.state import running

if TYPE_CHECKING:
    from qefleet.memory.embedding import Embedder
    from worker.settings import Settings


def find_embedder(settings: Settings, project: str) -> Embedder | None:
    """The local model where it is installed, a provider's through the gateway, or none.

    Args:
        settings: As loaded; a gateway that they don't name is that of a running `qe up`.
        project: Whose memory it is for.
    """
    model = settings.models.embeddings
    if model in ("local", "none"):
        return find_minilm() if model == "local" else None
    url, secret = settings.gateway.url, settings.gateway.secret
    if url is None and (up := running(settings.folders.data)):
        url, secret = up.addresses.gateway, up.secret()
    return ProviderEmbedder(model, gateway_url=url, secret=secret, project=project)
