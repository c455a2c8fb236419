"""The memory in Redis (`qefleet[redis]`), for those who run one: the same promises, text searched by reading.

Redis 6.2 or newer, one server or one with replicas; a cluster won't do, since a partition is several keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from qefleet.errors import InvalidInput, MissingTool
from qefleet.memory.embedding import Embedder
from qefleet.memory.globs import beyond, glob_bounds, matcher
from qefleet.memory.portable import still
from qefleet.memory.protocol import HISTORY_MAX, PARTITION, PROJECT, Entry, Record, Stats, Swept, Version
from qefleet.memory.ranking import Ranking
from qefleet.memory.values import check_key, check_name, check_ttl, from_bytes, to_bytes, to_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

BATCH = 500
"""Keys that are read at once."""

_NAMED = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Row(NamedTuple):
    key: str
    content: bytes
    version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


def open_redis(url: str) -> Redis:
    """A client for `RedisMemory`.

    Raises:
        MissingTool: redis-py isn't installed.
    """
    try:
        from redis.asyncio import Redis  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingTool("the memory in Redis needs redis-py: install qefleet[redis]") from error
    return Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - untyped keyword arguments


class RedisMemory(Ranking):
    """A `Memory` in Redis.

    Args:
        client: As `open_redis` gives it; it gives bytes, not text.
        project: Whose it is.
        embedder: Makes vectors for `recall`.
    """

    def __init__(self, client: Redis, *, project: str = PROJECT, embedder: Embedder | None = None) -> None:
        super().__init__(embedder=embedder)
        self._redis: Any = client
        self._project = check_name(project, field="project")
        self._scripts = _scripts(client)

    async def store(
        self, key: str, value: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """See `Memory.store`."""
        return await self._store(key, value, "any", ttl, partition)

    async def retrieve(self, key: str, *, partition: str = PARTITION) -> Entry | None:
        """See `Memory.retrieve`."""
        rows = await self._rows(partition, [check_key(key)])
        return self._entry(partition, rows[0]) if rows else None

    async def search(
        self, glob: str, *, partition: str = PARTITION, limit: int = 100, after: str | None = None
    ) -> list[Entry]:
        """See `Memory.search`."""
        low, high = glob_bounds(glob)
        matches, found = matcher(glob).match, list[Entry]()
        exclusive = after is not None and after >= low
        low = after if exclusive and after is not None else low
        while len(found) < limit:
            keys = await self._keys(partition, low, high, exclusive=exclusive, count=BATCH)
            rows = await self._rows(partition, [key for key in keys if matches(key)])
            found += [self._entry(partition, row) for row in rows]
            if len(keys) < BATCH:
                break
            low, exclusive = keys[-1], True
        return found[:limit]

    async def delete(self, key: str, *, partition: str = PARTITION) -> bool:
        """See `Memory.delete`."""
        return bool(await self._run("delete", partition, check_key(key)))

    async def clear_partition(self, partition: str) -> int:
        """See `Memory.clear_partition`."""
        count = 0
        while keys := await self._keys(partition, "", None, exclusive=False, count=BATCH):
            count += await self._run("delete", partition, *keys)
        return count

    async def list_keys(
        self, prefix: str = "", *, partition: str = PARTITION, limit: int | None = None
    ) -> list[str]:
        """See `Memory.list_keys`."""
        return list(await self.versions(prefix, partition=partition))[:limit]

    async def stats(self) -> Stats:
        """See `Memory.stats`."""
        live, all_of_them, versions = dict[str, int](), 0, 0
        for name in await self._partitions():
            keys = await self._keys(name, "", None, exclusive=False, count=-1)
            all_of_them += len(keys)
            if rows := await self._rows(name, keys):
                live[name] = len(rows)
            past = await self._redis.hkeys(self._base(name) + b":last")
            pipeline = self._redis.pipeline(transaction=False)
            for key in past:
                pipeline.llen(self._base(name) + b":past:" + key)
            versions += sum(await pipeline.execute())
        entries = sum(live.values())
        return Stats(entries=entries, partitions=live, expired=all_of_them - entries, versions=versions)

    async def compare_and_set(
        self,
        key: str,
        value: Any,
        *,
        expected: int | None,
        ttl: timedelta | None = None,
        partition: str = PARTITION,
    ) -> int | None:
        """See `Memory.compare_and_set`."""
        return await self._store(key, value, "none" if expected is None else expected, ttl, partition) or None

    async def append(
        self, key: str, item: Any, *, ttl: timedelta | None = None, partition: str = PARTITION
    ) -> int:
        """See `Memory.append`."""
        content = to_bytes(to_json(check_key(key), item))
        version = await self._run("append", partition, key, content, _microseconds(check_ttl(ttl)))
        if not version:
            raise InvalidInput("append", f"what is under {key!r} isn't a list")
        return version

    async def history(
        self, key: str, *, partition: str = PARTITION, limit: int = HISTORY_MAX
    ) -> list[Version]:
        """See `Memory.history`."""
        name = self._base(partition) + b":past:" + check_key(key).encode()
        lines: list[bytes] = await self._redis.lrange(name, 0, min(limit, HISTORY_MAX) - 1)
        parts = [line.split(b"|", 2) for line in lines]
        return [
            Version(version=int(version), value=from_bytes(content), written_at=_time(written))
            for version, written, content in parts
        ]

    async def sweep(self, *, keep: timedelta = timedelta(days=30), limit: int = 10_000) -> Swept:
        """See `Memory.sweep`."""
        expired = versions = 0
        more = False
        for name in await self._partitions():
            gone = await self._run("sweep", name, limit - expired - versions, keep // _MICROSECOND)
            expired, versions, more = expired + gone[0], versions + gone[1], more or bool(gone[2])
        return Swept(expired=expired, versions=versions, more=more)

    async def versions(self, prefix: str, *, partition: str) -> dict[str, int]:
        """See `Portable.versions`; in the order of keys."""
        keys = await self._keys(partition, prefix, beyond(prefix), exclusive=False, count=-1)
        return {row.key: row.version for row in await self._rows(partition, keys)}

    async def restore(self, record: Record) -> bool:
        """See `Portable.restore`."""
        content = to_bytes(to_json(check_key(record.key), record.value))
        times = (_since_epoch(record.created_at), _since_epoch(record.expires_at))
        return bool(await self._run("restore", record.partition, record.key, content, *times))

    async def text_of(self, entry: Entry) -> str:
        """See `Ranking.text_of`."""
        return to_json(entry.key, entry.value)

    async def _store(
        self, key: str, value: Any, expected: str | int, ttl: timedelta | None, partition: str
    ) -> int:
        content = to_bytes(to_json(check_key(key), value))
        return await self._run("store", partition, key, content, _microseconds(check_ttl(ttl)), expected)

    async def _run(self, name: str, partition: str, *arguments: Any) -> Any:
        base = self._base(partition)
        return await self._scripts[name](
            keys=[base, self._partitions_name()], args=[partition, HISTORY_MAX, *arguments]
        )

    async def _rows(self, partition: str, keys: Sequence[str]) -> list[_Row]:
        """What is there of these keys, in their order."""
        if not keys:
            return []
        base = self._base(partition)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.time()
        pipeline.hmget(base + b":value", keys)
        pipeline.hmget(base + b":meta", keys)
        (seconds, microseconds), contents, metas = await pipeline.execute()
        now = _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)
        rows = [
            _row(key, content, meta)
            for key, content, meta in zip(keys, contents, metas, strict=True)
            if content is not None
        ]
        return [row for row in rows if still(row.expires_at, now)]

    async def _keys(
        self, partition: str, low: str, high: str | None, *, exclusive: bool, count: int
    ) -> list[str]:
        try:
            first = (b"(" if exclusive else b"[") + low.encode() if low else b"-"
        except UnicodeEncodeError:
            return []
        last = b"+" if high is None else b"(" + high.encode()
        found = await self._redis.zrangebylex(
            self._base(partition) + b":keys", first, last, start=0, num=count
        )
        return [cast("bytes", key).decode() for key in found]

    async def _partitions(self) -> list[str]:
        found = await self._redis.smembers(self._partitions_name())
        return sorted(cast("bytes", name).decode() for name in found)

    def _base(self, partition: str) -> bytes:
        name = check_name(partition, field="partition")
        return f"qe:{len(self._project)}:{self._project}:{len(name)}:{name}".encode()

    def _partitions_name(self) -> bytes:
        return f"qe:{len(self._project)}:{self._project}:partitions".encode()

    def _entry(self, partition: str, row: _Row) -> Entry:
        return Entry(
            project=self._project,
            partition=partition,
            key=row.key,
            value=from_bytes(row.content),
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            expires_at=row.expires_at,
        )


def _scripts(client: Any) -> dict[str, Any]:
    parts = _NAMED.split(files("qefleet.memory").joinpath("redis.lua").read_text("utf-8"))[1:]
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    prelude = bodies.pop("prelude")
    return {name: client.register_script(prelude + body) for name, body in bodies.items()}


def _row(key: str, content: bytes, meta: bytes) -> _Row:
    version, created, updated, expires = meta.split(b"|")
    return _Row(
        key,
        content,
        int(version),
        _time(created),
        _time(updated),
        _time(expires) if expires != b"0" else None,
    )


def _time(microseconds: bytes) -> datetime:
    return _EPOCH + int(microseconds) * _MICROSECOND


def _since_epoch(time: datetime | None) -> int:
    return (time - _EPOCH) // _MICROSECOND if time else 0


def _microseconds(ttl: timedelta | None) -> int:
    return max(1, ttl // _MICROSECOND) if ttl else 0
