"""Breaking changes and wrong answers, planted one by one and found by the real tools."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project

from qefleet.agents.api_contract_validator import API_CONTRACT_VALIDATOR as AGENT
from qefleet.contracts.changes import Changes
from qefleet.errors import InvalidInput
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import Tool
from qefleet.workspace.sandbox import Sandbox

_PYPROJECT = '[project]\nname = "shop"\nversion = "1.2.0"\n'
_OLD = {
    "pyproject.toml": _PYPROJECT,
    "shop/__init__.py": "from shop.prices import total\n\n__all__ = ['total']\n",
    "shop/prices.py": "def total(prices, rounded=True):\n    return sum(prices)\n\n\ndef gone(): ...\n",
}
_NEW = {
    **_OLD,
    "shop/prices.py": "\ndef total(prices, rounded):\n    return sum(prices)\n",
}
_SPEC: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "shop", "version": "1.2.0"},
    "paths": {
        "/items/{id}": {
            "get": {
                "parameters": [
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "integer", "minimum": 0, "maximum": 1000},
                    },
                    {"name": "q", "in": "query", "schema": {"type": "string", "enum": ["a", "b"]}},
                ],
                "responses": {
                    "200": {
                        "description": "it",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}},
                    },
                    "422": {"description": "no such thing"},
                },
            }
        },
        "/gone": {"get": {"responses": {"200": {"description": "ok"}}}},
    },
    "components": {
        "schemas": {
            "Item": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
            }
        }
    },
}
_ASGI = """
import json
import pathlib

SPEC = json.loads(pathlib.Path("openapi.json").read_text())


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    status, body = answer(scope["method"], scope["path"], scope["query_string"].decode())
    allow = [(b"allow", b"GET")] if status == 405 else []
    headers = [(b"content-type", b"application/json"), *allow]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def answer(method, path, query):
    if method != "GET":
        return 405, {}
    if path == "/openapi.json":
        return 200, SPEC
    if path == "/gone":
        return 200, {}
    number = path.rpartition("/")[2]
    if query not in ("", "q=a", "q=b") or not number.isdigit() or int(number) > 1000:
        return 422, {}
    return BROKEN if int(number) > 900 else (200, {"id": int(number)})
"""
_WSGI = (
    _ASGI
    + """

def wsgi(environ, start_response):
    status, body = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
    headers = [("content-type", "application/json"), *([("allow", "GET")] if status == 405 else [])]
    start_response(f"{status} said", headers)
    return [json.dumps(body).encode()]
"""
)


def _changed_spec() -> dict[str, Any]:
    spec = json.loads(json.dumps(_SPEC))
    del spec["paths"]["/gone"]
    parameters = spec["paths"]["/items/{id}"]["get"]["parameters"]
    parameters[1] = {
        "name": "q",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "enum": ["a"]},
    }
    item = spec["components"]["schemas"]["Item"]
    del item["properties"]["name"]
    item["properties"]["id"]["type"] = "string"
    return spec


@pytest.fixture
def at(tmp_path: Path, environment: Path, sandbox: Sandbox) -> Any:
    def ground(files: Mapping[str, str]) -> LocalGround:
        folder = tmp_path / f"project{len(list(tmp_path.iterdir()))}"
        return LocalGround(write_project(folder, files), environment, sandbox)

    return ground


def _spec(spec: Any) -> str:
    return json.dumps(spec, indent=1)


def _served(broken: str) -> dict[str, str]:
    return {"openapi.json": _spec(_SPEC), "web.py": _WSGI.replace("BROKEN", broken)}


async def _diff(at: Any, old: Mapping[str, str], new: Mapping[str, str]) -> Alone:
    return await measure_alone(AGENT, at(new), base=at(old), changes=Changes({}))


def _found(alone: Alone) -> list[tuple[str, str | None, int | None]]:
    return sorted((issue["id"], issue["path"], issue["line"]) for issue in alone.details["issues"])


async def test_a_changed_signature_and_a_removed_function_are_found_in_their_places(at: Any) -> None:
    """Through the name under which it is imported from the package, too; no version announces them."""
    alone = await _diff(at, _OLD, _NEW)

    assert _found(alone) == [
        ("OBJECT_REMOVED@shop.prices.gone", "shop/prices.py", None),
        ("PARAMETER_CHANGED_REQUIRED@shop.prices.total", "shop/prices.py", 2),
    ]
    assert alone.value("contracts.python_breaking") == alone.value("contracts.breaking_changes") == 2
    assert alone.value("contracts.openapi_breaking") == 0
    assert alone.value("contracts.unannounced_breaking") == 2
    assert alone.finding.headline == "2 breaking changes since the base"
    assert alone.evidence[0]["id"] == "OBJECT_REMOVED@shop.prices.gone"


async def test_a_raised_major_version_announces_what_breaks(at: Any) -> None:
    new = {**_NEW, "pyproject.toml": _PYPROJECT.replace("1.2.0", "2.0.0")}
    alone = await _diff(at, _OLD, new)
    assert alone.value("contracts.breaking_changes") == 2
    assert alone.value("contracts.unannounced_breaking") == 0


async def test_a_package_that_is_gone_breaks(at: Any) -> None:
    alone = await _diff(at, _OLD, {"README.md": "moved\n"})
    assert [issue["id"] for issue in alone.details["issues"]] == ["OBJECT_REMOVED@shop"]


async def test_additions_break_nothing(at: Any) -> None:
    """New functions, optional parameters, private names; new paths, optional fields, wider input."""
    source = (
        "def total(prices, rounded=True, tax=0):\n    return sum(prices)\n\n\ndef gone():\n    return _x()\n"
    )
    spec = json.loads(json.dumps(_SPEC))
    spec["paths"]["/new"] = spec["paths"]["/gone"]
    get = spec["paths"]["/items/{id}"]["get"]
    get["parameters"].append({"name": "page", "in": "query", "schema": {"type": "integer"}})
    get["parameters"][1]["schema"]["enum"].append("c")
    spec["paths"]["/items/{item}"] = spec["paths"].pop("/items/{id}")
    get["parameters"][0]["name"] = "item"
    spec["components"]["schemas"]["Item"]["properties"]["size"] = {"type": "string"}

    alone = await _diff(
        at,
        {**_OLD, "openapi.json": _spec(_SPEC)},
        {**_OLD, "shop/prices.py": source + "\n\ndef _x(): ...\n", "openapi.json": _spec(spec)},
    )

    assert alone.details["issues"] == []
    assert alone.value("contracts.breaking_changes") == 0
    assert alone.evidence is None


async def test_each_broken_promise_of_a_description_is_found_at_its_line(at: Any) -> None:
    """A removed path, a parameter made required and narrowed, a lost and a changed property; nothing else."""
    new = _spec(_changed_spec())
    alone = await _diff(at, {"openapi.json": _spec(_SPEC)}, {"openapi.json": new})

    lines = new.splitlines()
    assert sorted(
        (rule.partition("@")[0], lines[(line or 0) - 1].strip().split(":")[0])
        for rule, _, line in _found(alone)
    ) == [
        ("enum-narrowed", '"schema"'),
        ("parameter-became-required", "{"),
        ("path-removed", '"paths"'),
        ("property-removed", '"Item"'),
        ("type-widened", '"id"'),
    ]
    assert alone.value("contracts.openapi_breaking") == 5
    assert alone.value("contracts.operations") == 1


async def test_the_last_run_is_what_the_next_is_held_against(at: Any) -> None:
    """Without a base: the first run has nothing to say, the second what has changed since."""
    files = {**_OLD, "openapi.json": _spec(_SPEC)}
    first = await measure_alone(AGENT, at(files))
    assert "contracts.breaking_changes" not in first.finding.measurement.metrics
    assert first.value("contracts.operations") == 2

    changed = {**_NEW, "openapi.json": _spec(_changed_spec())}
    second = await measure_alone(AGENT, at(changed), last=first.result(AGENT), artifacts=first.artifacts)

    assert second.value("contracts.python_breaking") == 2
    assert second.value("contracts.openapi_breaking") == 5
    assert second.finding.headline == "7 breaking changes since the last run"


@pytest.mark.parametrize("app", ["web:app", "web:wsgi"])
async def test_a_planted_server_error_is_found_with_a_request_that_shows_it(at: Any, app: str) -> None:
    """ASGI and WSGI alike, with the target's interpreter, which has no server of its own."""
    alone = await measure_alone(AGENT, at(_served("(500, {})")), options={"app": app, "max_examples": 5})

    (issue, _) = alone.details["issues"]
    assert issue["id"] == "ST101@GET /items/{id}"
    example = alone.details["failures"][0]["example"]
    assert 900 < int(example.removeprefix("GET /items/").partition("?")[0]) <= 1000
    assert alone.value("contracts.server_errors") == 1
    assert alone.value("contracts.operations_tested") == alone.value("contracts.operations_described") == 2


async def test_a_server_that_keeps_its_promises_fails_nothing_and_runs_alike_twice(at: Any) -> None:
    ground = at(_served("(200, {'id': 1})"))
    runs = [
        await measure_alone(AGENT, ground, options={"app": "web:app", "max_examples": 5}) for _ in range(2)
    ]
    assert runs[0].details["issues"] == []
    assert runs[0].value("contracts.failures") == 0
    assert (runs[0].value("contracts.requests") or 0) > 25
    assert runs[0].value("contracts.requests") == runs[1].value("contracts.requests")


async def test_a_failure_that_the_base_has_too_is_known(at: Any) -> None:
    files = _served("(500, {})")
    command = ["/env/bin/python", "/qe/qe_serve.py", "web:wsgi", "PORT", ""]
    alone = await measure_alone(
        AGENT, at(files), base=at(files), changes=Changes({}), options={"command": command, "max_examples": 1}
    )
    assert [issue["known"] for issue in alone.details["issues"]] == [True, True]
    assert alone.value("contracts.failures_new") == 0


async def test_a_server_that_does_not_start_is_not_measured(at: Any) -> None:
    files = {**_served("1"), "web.py": "raise RuntimeError('no database')\n"}
    alone = await measure_alone(AGENT, at(files), options={"app": "web:app"})
    assert "no database" in alone.reason("contracts.failures")
    assert alone.finding.headline.endswith("the API's answers were not measured")


@contextmanager
def _host(answers: Mapping[str, str]) -> Generator[str]:
    """A server on this machine that answers paths as told, and anything else with 500; its host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(500 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write((body or "{}").encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name above
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_an_allowed_host_is_tested_by_its_own_description(at: Any) -> None:
    """A description that refers to another place is not used: it could send requests anywhere."""
    spec = {**_SPEC, "paths": {"/gone": _SPEC["paths"]["/gone"]}}
    elsewhere = _spec(spec).replace("#/components", "http://127.0.0.1:1/x#/components")
    elsewhere = elsewhere.replace('"Item": {', '"Item": {"$ref": "http://127.0.0.1:1/x"}, "Other": {')
    with _host({"/openapi.json": _spec(spec), "/elsewhere.json": elsewhere}) as host:
        given = {"url": f"http://{host}", "max_examples": 1}
        fine, refused = [
            await measure_alone(
                AGENT, at({"README.md": ""}), options={**given, **more}, allowed_hosts=frozenset({host})
            )
            for more in ({}, {"description": "/elsewhere.json"})
        ]

    assert [issue["id"] for issue in fine.details["issues"] if issue["severity"] == "high"] == [
        "ST101@GET /gone"
    ]
    assert fine.value("contracts.server_errors") == 1
    assert "outside of itself" in refused.reason("contracts.failures")


async def test_a_host_that_nobody_allowed_is_refused(at: Any) -> None:
    with pytest.raises(InvalidInput, match="QE_ALLOWED_HOSTS"):
        await measure_alone(AGENT, at(_OLD), options={"url": "http://example.org"})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("tool", "metric"),
    [
        ("griffe", "contracts.python_breaking"),
        ("openapi comparison", "contracts.openapi_breaking"),
        ("schemathesis.cli", "contracts.failures"),
    ],
)
async def test_a_broken_tool_measures_nothing(at: Any, tool: str, metric: str, way: Way) -> None:
    """And the sum of what it would have given isn't measured either."""
    files = {**_OLD, **_served("(500, {})")}
    ground = BrokenTools(at(files), tool, way)
    options = {"app": "web:app", "max_examples": 1} if tool.startswith("schemathesis") else {}
    alone = await measure_alone(AGENT, ground, base=at(files), changes=Changes({}), options=options)
    assert alone.reason(metric)
    if not options:
        assert alone.reason("contracts.unannounced_breaking")


async def test_missing_tools_say_how_to_install_them(at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = at({**_OLD, **_served("1")})

    def missing(_: Tool) -> None:
        return None

    monkeypatch.setattr(Tool, "version", missing)
    alone = await measure_alone(AGENT, ground, options={"app": "web:app"})
    assert "qefleet[contracts]" in alone.reason("contracts.failures")
    assert "pip install" in alone.reason("contracts.python_objects")


@pytest.mark.soak
async def test_our_own_part_takes_little_time(at: Any) -> None:
    """Less than 200 ms around each of its six runs of tools, or 5 %; the best of three."""
    old, new = at({**_OLD, **_served("(500, {})")}), at({**_NEW, **_served("(500, {})")})
    options = {"app": "web:app", "max_examples": 2}
    runs = [await measure_alone(AGENT, new, base=old, changes=Changes({}), options=options) for _ in range(3)]
    assert [len(run.finding.measurement.tools) for run in runs] == [6, 6, 6]
    assert min(run.overhead_s - max(0.2 * 6, 0.05 * run.took_s) for run in runs) < 0
