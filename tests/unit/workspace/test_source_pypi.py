from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qefleet.errors import TargetError, TransientError
from qefleet.workspace.source_pypi import read_release


class Index:
    """A package index with files of our making."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, str, bytes]] = {}
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = index.pages.get(self.path, (404, "text/plain", b""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
                del format, args

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"

    def publish(self, name: str, files: dict[str, bytes], *, broken: str = "", yanked: str = "") -> None:
        rows = [
            {
                "filename": filename,
                "url": f"/files/{filename}",
                "hashes": {"sha256": hashlib.sha256(content + broken.encode()).hexdigest()},
                "yanked": filename == yanked,
            }
            for filename, content in files.items()
        ]
        page = json.dumps({"files": rows}).encode()
        self.pages[f"/simple/{name}/"] = (200, "application/vnd.pypi.simple.v1+json", page)
        self.pages |= {
            f"/files/{name}": (200, "application/gzip", content) for name, content in files.items()
        }


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()
    thread = threading.Thread(target=index.server.serve_forever, args=(0.05,))
    thread.start()
    yield index
    index.server.shutdown()
    thread.join()
    index.server.server_close()


def sdist(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return raw.getvalue()


async def test_the_newest_final_release_is_read(index: Index) -> None:
    """Without a version the highest counts that is neither yanked nor a preview."""
    files = {
        f"pkg-{v}.tar.gz": sdist((f"pkg-{v}/v.py", v.encode())) for v in ("1.9", "1.10", "2.0", "3.0rc1")
    }
    index.publish("pkg", files, yanked="pkg-2.0.tar.gz")

    release = await read_release("pkg", None, index_url=index.url)

    assert release.version == "1.10"
    assert [(entry.path, entry.content) for entry in release.tree.entries] == [("v.py", b"1.10")]


async def test_a_version_is_found_however_it_is_written(index: Index) -> None:
    """Versions are compared, not texts; names are normalised."""
    index.publish("my-pkg", {"my_pkg-1.0.tar.gz": sdist(("my_pkg-1.0/a", b"x"))})

    release = await read_release("My.Pkg", "1.0.0", index_url=index.url)

    assert (release.name, release.version) == ("My.Pkg", "1.0")


async def test_a_zip_is_read_as_well(index: Index) -> None:
    """Old releases come as zip files."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("pkg-1.0/a.py", "x")
    index.publish("pkg", {"pkg-1.0.zip": raw.getvalue()})

    release = await read_release("pkg", "1.0", index_url=index.url)

    assert [entry.path for entry in release.tree.entries] == ["a.py"]


async def test_an_index_of_html_pages_is_read(index: Index) -> None:
    """The old form of the simple API has the same facts."""
    content = sdist(("pkg-1.0/a.py", b"x"))
    index.publish("pkg", {"pkg-1.0.tar.gz": content})
    digest = hashlib.sha256(content).hexdigest()
    page = f'<a href="../../files/pkg-1.0.tar.gz#sha256={digest}">x</a><a href="pkg-9-py3-none-any.whl">w</a>'
    index.pages["/simple/pkg/"] = (200, "text/html", page.encode())

    assert (await read_release("pkg", None, index_url=index.url)).version == "1.0"


async def test_bytes_that_do_not_match_their_hash_are_refused(index: Index) -> None:
    """What was changed on the way isn't unpacked."""
    index.publish("pkg", {"pkg-1.0.tar.gz": sdist(("pkg-1.0/a", b"x"))}, broken="x")

    with pytest.raises(TargetError, match="doesn't match the hash"):
        await read_release("pkg", None, index_url=index.url)


async def test_hostile_members_are_left_out_with_a_note(index: Index) -> None:
    """Paths and links that lead out, devices and hard links never reach the tree."""
    link, hard, device = (
        tarfile.TarInfo("pkg-1.0/l"),
        tarfile.TarInfo("pkg-1.0/h"),
        tarfile.TarInfo("pkg-1.0/d"),
    )
    link.type, link.linkname = tarfile.SYMTYPE, "../../etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    content = sdist(("pkg-1.0/a.py", b"x"), ("pkg-1.0/../../b", b"x"), link, hard, device)
    index.publish("pkg", {"pkg-1.0.tar.gz": content})

    tree = (await read_release("pkg", None, index_url=index.url)).tree

    assert [entry.path for entry in tree.entries] == ["a.py"]
    assert len(tree.notes) == 4


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("missing", None, "knows no package 'missing'"),
        ("pkg", "9.9", "no sdist on the index; the newest that have one: 1.1, 1.0"),
        ("pkg", "one", "isn't a version"),
        ("wheels", None, "has no sdist on the index"),
        ("broken", None, "can't be read as an archive"),
    ],
)
async def test_what_cannot_be_had_says_why(
    index: Index, name: str, version: str | None, message: str
) -> None:
    """Each message names what is there or what to do."""
    index.publish("pkg", {f"pkg-{v}.tar.gz": sdist((f"pkg-{v}/a", b"x")) for v in ("1.0", "1.1")})
    index.publish("wheels", {"wheels-1.0-py3-none-any.whl": b""})
    index.publish("broken", {"broken-1.0.tar.gz": b"not an archive"})

    with pytest.raises(TargetError, match=message):
        await read_release(name, version, index_url=index.url)


async def test_an_index_that_is_away_is_worth_another_try(index: Index) -> None:
    """Errors of the server and of the network are not the user's."""
    index.pages["/simple/pkg/"] = (503, "text/plain", b"")

    with pytest.raises(TransientError, match="503"):
        await read_release("pkg", None, index_url=index.url)
    with pytest.raises(TransientError, match="can't be reached"):
        await read_release("pkg", None, index_url="http://127.0.0.1:9/simple")
