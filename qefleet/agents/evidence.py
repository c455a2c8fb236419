"""Keeping what was measured: artifacts under their hashes, evidence for a model's judgement."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from qefleet.contracts.base import Digest
from qefleet.contracts.measured import ArtifactRef
from qefleet.memory.artifacts import Artifacts


async def keep_all(artifacts: Artifacts, files: Iterable[tuple[ArtifactRef, bytes]]) -> list[ArtifactRef]:
    """Store files under the hashes that tool runs name."""
    return [await artifacts.put(content, name=ref.name, media_type=ref.media_type) for ref, content in files]


async def keep_evidence(artifacts: Artifacts, evidence: Any) -> Digest:
    """Store what a model is to judge.

    It must not hold durations, seeds or paths of one run: the same findings must make the same question,
    so that the ledger's answer serves after a crash or a reset.
    """
    content = json.dumps(evidence, indent=1, sort_keys=True).encode()
    return (await artifacts.put(content, name="evidence.json", media_type="application/json")).digest
