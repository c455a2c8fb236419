from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from qefleet.contracts.measured import ArtifactRef
from qefleet.memory.artifacts import ArtifactMissing, Artifacts
from qefleet.sql.database import open_pool


@pytest.fixture
async def artifacts(database: str) -> AsyncIterator[Artifacts]:
    pool = await open_pool(database)
    yield Artifacts(pool)
    await pool.close()


async def test_bytes_are_kept_under_their_hash(artifacts: Artifacts) -> None:
    """Any bytes come back as they were, and keeping them twice changes nothing."""
    content = bytes(range(256)) * 4096
    digest = hashlib.sha256(content).hexdigest()

    first = await artifacts.put(content, name="a.bin", media_type="application/octet-stream")
    again = await artifacts.put(content, name="b.bin", media_type="application/octet-stream")

    assert first == ArtifactRef(
        name="a.bin", digest=digest, media_type="application/octet-stream", size_bytes=1 << 20
    )
    assert again.digest == digest
    assert await artifacts.get(digest) == content


async def test_nothing_is_an_artifact_too(artifacts: Artifacts) -> None:
    """Empty bytes have a hash like all others."""
    kept = await artifacts.put(b"", name="empty", media_type="text/plain")

    assert await artifacts.get(kept.digest) == b""


async def test_an_unknown_digest_is_told(artifacts: Artifacts) -> None:
    """The message says where to look."""
    with pytest.raises(ArtifactMissing, match="isn't in this database"):
        await artifacts.get("0" * 64)
