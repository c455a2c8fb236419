"""Search by text where the store itself has none: every entry of the partition is read and judged here."""

from __future__ import annotations

import hashlib
from abc import abstractmethod

from qefleet.memory.embedding import NO_VECTORS, Embedder, cosine, entry_text
from qefleet.memory.portable import Portable
from qefleet.memory.protocol import PARTITION, Entry, Match, Recall
from qefleet.memory.values import share, words_in, words_of

NO_EMBEDDER = "no model makes vectors here: qefleet[embeddings] has one, QE_EMBEDDINGS names another"


class Ranking(Portable):
    """`find` and `recall` by reading everything: for stores without an index, and thousands of entries.

    Args:
        embedder: Makes vectors; None recalls by words.
    """

    def __init__(self, *, embedder: Embedder | None) -> None:
        self._embedder = embedder
        self._vectors: dict[str, list[float]] = {}

    @abstractmethod
    async def text_of(self, entry: Entry) -> str:
        """The entry's value as JSON text."""

    async def find(self, text: str, *, partition: str = PARTITION, limit: int = 20) -> list[Match]:
        """See `Memory.find`."""
        question = words_in(text)
        found = [
            Match(entry=entry, score=score)
            for entry in await self._all(partition)
            if (score := share(question, words_of(entry.key, await self.text_of(entry))))
        ]
        return sorted(found, key=lambda match: (-match.score, match.entry.key))[:limit]

    async def recall(self, text: str, k: int = 5, *, partition: str = PARTITION) -> Recall:
        """See `Memory.recall`."""
        if self._embedder is None:
            matches = await self.find(text, partition=partition, limit=k)
            return Recall(by="words", reason=NO_EMBEDDER, matches=matches)
        entries = await self._all(partition)
        texts = [entry_text(entry.key, await self.text_of(entry)) for entry in entries]
        try:
            (question,) = await self._embedder.embed([text])
            vectors = await self._embed(self._embedder, texts)
        except NO_VECTORS as error:
            matches = await self.find(text, partition=partition, limit=k)
            return Recall(by="words", reason=str(error), matches=matches)
        found = [
            Match(entry=entry, score=cosine(question, vector))
            for entry, vector in zip(entries, vectors, strict=True)
        ]
        found.sort(key=lambda match: (-match.score, match.entry.key))
        return Recall(by="vectors", reason=None, matches=found[:k])

    async def _embed(self, embedder: Embedder, texts: list[str]) -> list[list[float]]:
        digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
        fresh = {
            digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._vectors
        }
        if fresh:
            vectors = await embedder.embed(list(fresh.values()))
            self._vectors |= dict(zip(fresh, vectors, strict=True))
        return [self._vectors[digest] for digest in digests]

    async def _all(self, partition: str) -> list[Entry]:
        return [entry async for entry in self.export(partition=partition)]
