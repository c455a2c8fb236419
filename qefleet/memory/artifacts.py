"""Bytes kept in Postgres under their SHA-256: snapshots, pinned requirements, patches, logs, reports.

Payloads and histories carry the digest; whoever needs the bytes gets them here, on any worker.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import asyncpg

from qefleet.contracts.base import Digest
from qefleet.contracts.measured import ArtifactRef
from qefleet.errors import QeError
from qefleet.sql.database import retrying
from qefleet.sql.queries import parse_queries

_QUERIES = parse_queries(files("qefleet.memory").joinpath("artifacts.sql").read_text("utf-8"))
_LARGE_S = 120.0
"""Seconds for one statement: an archive may have hundreds of megabytes."""


def reference(content: bytes, *, name: str, media_type: str) -> ArtifactRef:
    """What names bytes that are kept, or will be."""
    return ArtifactRef(
        name=name, digest=hashlib.sha256(content).hexdigest(), media_type=media_type, size_bytes=len(content)
    )


class ArtifactMissing(QeError):
    """A digest names nothing in this database, or bytes that don't match it."""


class Artifacts:
    """The content-addressed store of one database.

    Args:
        pool: Connections to the database.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def put(self, content: bytes, *, name: str, media_type: str) -> ArtifactRef:
        """Keep bytes; keeping the same again changes nothing.

        Raises:
            StoreUnavailable: Postgres can't be reached.
        """
        kept = reference(content, name=name, media_type=media_type)
        if not await retrying(lambda: self._pool.fetchval(_QUERIES["has_artifact"], kept.digest)):
            await retrying(
                lambda: self._pool.execute(
                    _QUERIES["put_artifact"], kept.digest, media_type, len(content), content, timeout=_LARGE_S
                )
            )
        return kept

    async def get(self, digest: Digest) -> bytes:
        """The bytes that the digest names, verified.

        Raises:
            ArtifactMissing: There are none, or they don't match.
            StoreUnavailable: Postgres can't be reached.
        """
        content = await retrying(
            lambda: self._pool.fetchval(_QUERIES["get_artifact"], digest, timeout=_LARGE_S)
        )
        if content is None:
            raise ArtifactMissing(f"artifact {digest} isn't in this database: was it made with another one?")
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactMissing(f"artifact {digest} is damaged: its bytes don't match its name")
        return content
