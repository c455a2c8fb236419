"""Read a released package: the sdist that the user's package index has, verified against its hash."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

import httpx
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from qefleet.errors import TargetError, TransientError
from qefleet.workspace.archive import BYTES_MAX, Entry, Meter, Tree, safe_path, stays_inside

_SIMPLE = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_PAGE_MAX = 64 * (1 << 20)
_SERVER_ERROR = 500
_NOT_FOUND = 404


@dataclass(frozen=True)
class Release:
    """A package's files as released."""

    tree: Tree
    name: str
    version: str


@dataclass(frozen=True)
class _Sdist:
    version: Version
    url: str
    filename: str
    sha256: str | None
    yanked: bool


async def read_release(name: str, version: str | None, *, index_url: str) -> Release:
    """Download and read a package's sdist.

    Args:
        name: The package.
        version: Its version; the newest final release without it.
        index_url: The index's simple API, such as `https://pypi.org/simple`.

    Raises:
        TargetError: No such package or version, or it has no sdist, or its bytes don't match.
        TransientError: The index can't be reached now.
    """
    timeout = httpx.Timeout(30.0, read=120.0)
    async with httpx.AsyncClient(timeout=timeout, follow_redirects=True) as client:
        page = f"{index_url.rstrip('/')}/{canonicalize_name(name)}/"
        try:
            sdists = await _sdists(client, page, name)
            chosen = _choose(sdists, name, version)
            content = await _download(client, chosen.url, BYTES_MAX)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == _NOT_FOUND:
                raise TargetError(
                    f"the package index knows no package {name!r}: check its spelling"
                ) from error
            if status >= _SERVER_ERROR:
                raise TransientError(f"the package index answers {status} for {name!r}") from error
            raise TargetError(f"the package index refuses {name!r} with status {status}") from error
        except httpx.TransportError as error:
            raise TransientError(f"the package index can't be reached: {type(error).__name__}") from error
    if chosen.sha256 is None or hashlib.sha256(content).hexdigest() != chosen.sha256:
        raise TargetError(f"{chosen.filename} doesn't match the hash that the index gives for it")
    tree = await asyncio.to_thread(_read_archive, chosen.filename, content)
    return Release(tree, name=name, version=str(chosen.version))


async def _sdists(client: httpx.AsyncClient, page: str, name: str) -> list[_Sdist]:
    content, response = await _get(client, page, _PAGE_MAX, {"Accept": _SIMPLE})
    if "json" in response.headers.get("content-type", ""):
        rows = httpx.Response(200, content=content).json().get("files", [])
    else:
        rows = _Links(content.decode(errors="replace")).rows
    found: list[_Sdist] = []
    for row in rows:
        try:
            project, version = parse_sdist_filename(row["filename"])
        except (InvalidSdistFilename, InvalidVersion):
            continue
        if project == canonicalize_name(name):
            url = urljoin(str(response.url), row["url"])
            hashes: dict[str, str] = row.get("hashes") or {}
            found.append(_Sdist(version, url, row["filename"], hashes.get("sha256"), bool(row.get("yanked"))))
    if not found:
        raise TargetError(f"the package {name!r} has no sdist on the index: give its git repository instead")
    return found


def _choose(sdists: list[_Sdist], name: str, version: str | None) -> _Sdist:
    if version is None:
        usable = [sdist for sdist in sdists if not sdist.yanked] or sdists
        final = [sdist for sdist in usable if not sdist.version.is_prerelease]
        return max(final or usable, key=lambda sdist: sdist.version)
    try:
        wanted = Version(version)
    except InvalidVersion as error:
        raise TargetError(f"{version!r} isn't a version") from error
    for sdist in sdists:
        if sdist.version == wanted:
            return sdist
    newest = sorted({sdist.version for sdist in sdists}, reverse=True)[:5]
    raise TargetError(
        f"{name} {wanted} has no sdist on the index; the newest that have one: {', '.join(map(str, newest))}"
    )


async def _download(client: httpx.AsyncClient, url: str, cap: int) -> bytes:
    return (await _get(client, url, cap, {}))[0]


async def _get(
    client: httpx.AsyncClient, url: str, cap: int, headers: dict[str, str]
) -> tuple[bytes, httpx.Response]:
    async with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > cap:
                raise TargetError(f"the package index sends more than {cap >> 20} MB for one file")
    return bytes(content), response


class _Links(HTMLParser):
    """Files on an HTML page of the simple API."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and (href := values.get("href")):
            url, fragment = urldefrag(href)
            hashed = re.match(r"sha256=([0-9a-f]{64})", fragment)
            self.rows.append(
                {
                    "url": url,
                    "filename": unquote(url.rpartition("/")[2]),
                    "hashes": {"sha256": hashed[1]} if hashed else {},
                    "yanked": "data-yanked" in values,
                }
            )


def _read_archive(filename: str, content: bytes) -> Tree:
    meter = Meter()
    entries: list[Entry] = []
    try:
        members = _zip_members(content, meter) if filename.endswith(".zip") else _tar_members(content, meter)
        for member in members:
            _, _, inner = member.path.partition("/")  # below the folder `name-version`
            if not inner:
                continue
            if not safe_path(inner):
                meter.notes.append(f"left out, a name that no archive should have: {inner!r}")
            elif member.link is not None and not stays_inside(inner, member.link):
                meter.notes.append(f"left out, a link that leads out of the tree: {inner!r}")
            else:
                entries.append(Entry(inner, member.content, member.link, member.executable))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise TargetError(f"{filename} can't be read as an archive: {error}") from error
    if not entries:
        raise TargetError(f"{filename} has no files")
    unique = {entry.path: entry for entry in entries}
    return Tree(tuple(unique.values()), tuple(meter.notes[:20]))


def _tar_members(content: bytes, meter: Meter) -> Iterator[Entry]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as tar:
        for info in tar:
            if info.isreg() and (source := tar.extractfile(info)) is not None:
                meter.add(info.size)
                yield Entry(info.name, content=source.read(), executable=bool(info.mode & 0o100))
            elif info.issym():
                meter.add(0)
                yield Entry(info.name, link=info.linkname)
            elif not info.isdir():
                meter.notes.append(f"left out, neither file nor link: {info.name!r}")


def _zip_members(content: bytes, meter: Meter) -> Iterator[Entry]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                meter.add(info.file_size)
                with archive.open(info) as source:
                    yield Entry(info.filename, content=source.read(info.file_size))
