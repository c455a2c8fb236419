"""Folders that are made once and then only read, shared by all workers of a data folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

_POLL_S = 0.05


class FolderCache:
    """Folders below one root, each complete or absent.

    Args:
        root: Only this user may enter it: what lies below is open to the sandbox's user.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        for folder in (root, root / ".locks", root / ".unfinished"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def folder(self, kind: str, name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        """The folder of this kind and name, made now if it isn't there.

        Args:
            kind: Groups folders of one sort.
            name: A digest.
            make: Fills a folder that exists and is empty; an error or a cancellation leaves nothing behind.
        """
        place = self._root / kind / name
        if place.is_dir():
            return place
        async with self.lock(f"{kind}-{name}"):
            if place.is_dir():
                return place  # another worker was faster
            unfinished = self._root / ".unfinished" / f"{kind}-{name[:16]}-{uuid.uuid4().hex}"
            unfinished.mkdir(mode=0o755)
            try:
                await make(unfinished)
                place.parent.mkdir(exist_ok=True)
                unfinished.rename(place)
            finally:
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True))
        return place

    def prune(self, kind: str, *, older_than_s: float) -> None:
        """Remove folders of a kind that were not touched for so long."""
        limit = time.time() - older_than_s
        for place in (self._root / kind).glob("*"):
            try:
                if place.stat().st_mtime >= limit:
                    continue
                doomed = self._root / ".unfinished" / f"old-{uuid.uuid4().hex}"
                place.rename(doomed)
            except FileNotFoundError:
                continue  # another worker does the same
            shutil.rmtree(doomed, ignore_errors=True)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncGenerator[None]:
        """Hold the lock of this name, among all processes; it ends with its holder."""
        descriptor = os.open(self._root / ".locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)
