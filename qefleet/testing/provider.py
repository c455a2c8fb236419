"""A scripted model provider: a real HTTP server, in a process of its own, that answers by rules and counts.

It speaks OpenAI's chat completions and embeddings and Anthropic's messages under any path that ends so,
streamed or whole,
and can fail in every way that a provider does (`Rule`). What no rule matches is answered 503.

From a shell: `python -m qefleet.testing.provider --port 9000 --script rules.json --replies file.py:answer`.
Its own paths: `GET /requests`, `DELETE /requests`, `POST /script`. From a test:

```python
async with ScriptedProvider([Rule(match="add two numbers", reply="def test_add(): …")]) as provider:
    os.environ["OPENAI_BASE_URL"] = f"{provider.url}/v1"
    …
    assert len(await provider.requests()) == 1
```
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from qefleet.contracts.base import Model
from qefleet.testing.script import Dialect, Refusal, Replies, Rule, Script, events, prompt_of, whole

_RULES = TypeAdapter(list[Rule])
_POLL_S = 0.02


class SeenRequest(Model):
    """One model request that arrived, answered or not."""

    number: int
    path: str
    model: str | None
    prompt: str
    stream: bool
    key: str
    """What came in `Authorization` or `x-api-key`."""
    body: dict[str, Any]
    at: float
    """Seconds since the epoch."""


class ScriptedProvider:
    """Runs the server as a child for the length of a `with` block.

    Args:
        rules: Tried in order; can be replaced by `script`.
        replies: `module:function` or `file.py:function`, loaded by the server (see `Replies`).
    """

    def __init__(self, rules: Sequence[Rule] = (), *, replies: str | None = None) -> None:
        self.url = ""
        self._rules = list(rules)
        self._replies = replies
        self._process: asyncio.subprocess.Process | None = None
        # Plain HTTP on this machine: reading certificates would cost more than all requests.
        self._client = httpx.AsyncClient(verify=False, trust_env=False)  # noqa: S501

    async def __aenter__(self) -> Self:
        argv = [sys.executable, "-m", "qefleet.testing.provider", "--port", "0", "--until-eof"]
        if self._replies:
            argv += ["--replies", self._replies]
        self._process = await asyncio.create_subprocess_exec(
            *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError("the scripted provider didn't start; its standard error says why")
        self.url = line.rsplit(" ", 1)[-1]
        if self._rules:
            await self.script(self._rules)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        await self._client.aclose()
        # Its standard input ends with us, however we end: so it never outlives a test that was killed.
        self._process.stdin.close()
        await self._process.wait()

    async def requests(self) -> list[SeenRequest]:
        """All model requests since the last reset, in order of arrival."""
        found = await self._call("GET", "/requests")
        return [SeenRequest.model_validate(item) for item in found]

    async def arrived(self, count: int = 1, *, timeout_s: float = 30) -> None:
        """Wait until so many model requests have come in.

        Raises:
            TimeoutError: They haven't.
        """
        for _ in range(int(timeout_s / _POLL_S)):
            if len(await self.requests()) >= count:
                return
            await asyncio.sleep(_POLL_S)
        raise TimeoutError(f"fewer than {count} requests after {timeout_s:.0f} s")

    async def reset(self) -> None:
        """Forget the requests and start counting anew."""
        await self._call("DELETE", "/requests")

    async def script(self, rules: Sequence[Rule]) -> None:
        """Replace the rules; the requests stay."""
        await self._call("POST", "/script", [rule.model_dump() for rule in rules])

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        response = await self._client.request(method, self.url + path, content=content)
        response.raise_for_status()
        return response.json()


class _Server:
    """HTTP by hand, one request a connection: only so can a reply be cut off anywhere."""

    def __init__(self, script: Script, replies: Replies | None) -> None:
        self._script = script
        self._replies = replies
        self._seen: list[SeenRequest] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            await self._answer(writer, method, path, headers, body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left, which is its right
        finally:
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        match method, path:
            case "GET", "/requests":
                _write(writer, 200, json.dumps([item.model_dump() for item in self._seen]).encode())
            case "DELETE", "/requests":
                self._seen.clear()
                _write(writer, 200, b"{}")
            case "POST", "/script":
                self._script = Script(_rules(body), replies=self._replies)
                _write(writer, 200, b"{}")
            case "POST", _ if path.endswith(("/chat/completions", "/embeddings")):
                await self._model(writer, "openai", path, headers, body)
            case "POST", _ if path.endswith("/messages"):
                await self._model(writer, "anthropic", path, headers, body)
            case _:
                _write(writer, 404, b'{"error": {"message": "no such path"}}')

    async def _model(
        self, writer: asyncio.StreamWriter, dialect: Dialect, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        request: dict[str, Any] = json.loads(body)
        prompt, number = prompt_of(request), len(self._seen)
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        stream = bool(request.get("stream"))
        self._seen.append(
            SeenRequest(
                number=number,
                path=path,
                model=request.get("model"),
                prompt=prompt,
                stream=stream,
                key=key,
                body=request,
                at=time.time(),
            )
        )
        try:
            rule = self._script.take(number, prompt, request)
        except Refusal as refusal:
            _write(
                writer, 503, json.dumps({"error": {"type": "unscripted", "message": str(refusal)}}).encode()
            )
            return
        await asyncio.sleep(rule.latency_s)
        if rule.fault == "hang":
            await asyncio.sleep(3600)
        if rule.fault in {"hang", "drop"}:
            writer.transport.abort()
        elif rule.status != 200:  # noqa: PLR2004
            extra = {} if rule.retry_after_s is None else {"retry-after": str(rule.retry_after_s)}
            error = {"type": "scripted", "message": f"scripted {rule.status}"}
            _write(writer, rule.status, json.dumps({"error": error}).encode(), extra)
        elif rule.fault == "malformed":
            _write(writer, 200, whole(dialect, rule, request, prompt, number)[:-2])
        elif stream:
            await _stream(writer, rule, list(events(dialect, rule, request, prompt, number)))
        else:
            content = whole(dialect, rule, request, prompt, number)
            _write(writer, 200, content, cut=rule.fault == "truncate")


def _write(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    extra: dict[str, str] | None = None,
    *,
    cut: bool = False,
) -> None:
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    _head(writer, status, headers | (extra or {}))
    writer.write(body[: len(body) // 2] if cut else body)


async def _stream(writer: asyncio.StreamWriter, rule: Rule, pieces: list[bytes]) -> None:
    kind = {"content-type": "text/event-stream", "transfer-encoding": "chunked", "connection": "close"}
    _head(writer, 200, kind)
    for piece in pieces[: len(pieces) // 2] if rule.fault == "truncate" else pieces:
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(rule.chunk_pause_s)
    if rule.fault != "truncate":
        writer.write(b"0\r\n\r\n")


def _head(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())


def _rules(raw: bytes) -> list[Rule]:
    # The standard library's parser: Pydantic's refuses the lone surrogates that a reply may be made of.
    return _RULES.validate_python(json.loads(raw))


def _load(name: str) -> Replies:
    place, _, function = name.rpartition(":")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), function)
    spec = importlib.util.spec_from_file_location("scripted_replies", place)
    if spec is None or spec.loader is None:
        raise SystemExit(f"can't load {place}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return getattr(module, function)


async def _run(app: _Server, options: argparse.Namespace) -> None:
    server = await asyncio.start_server(app.serve, options.host, options.port, limit=2**26)
    print(f"listening on http://{options.host}:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    if options.until_eof:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    else:
        await server.serve_forever()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the server until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m qefleet.testing.provider", description="scripted provider"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=9000, help="0 takes a free one; the first line printed tells it"
    )
    parser.add_argument("--script", help="file with a JSON list of rules")
    parser.add_argument(
        "--replies", help="module:function or file.py:function, called with (prompt, request)"
    )
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(argv)
    replies = _load(options.replies) if options.replies else None
    rules = _rules(Path(options.script).read_bytes()) if options.script else []
    try:
        asyncio.run(_run(_Server(Script(rules, replies=replies), replies), options))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
