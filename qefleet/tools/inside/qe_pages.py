"""Look at pages in a headless browser: a screenshot and axe-core's verdict of each, at each viewport.

Runs with the interpreter of the fleet's own environment. All that could differ from one run to the next is
held still: animations, the clock, random numbers, the caret, locale, time zone, and the fonts' configuration.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Page, sync_playwright

_OUT = Path("/out")
_BINARIES = ("/usr/lib/chromium/chromium", "/usr/lib64/chromium-browser/chromium-browser")
"""What the systems' launchers start; those read files below /etc, which isn't here."""
_FLAGS = [
    "--no-sandbox",  # this is one already: no namespaces can be made within it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--font-render-hinting=none",
    "--disable-lcd-text",
]
_FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<dir>/usr/share/fonts</dir><cachedir>/tmp/fonts</cachedir></fontconfig>"""
_NOW = 1_735_689_600  # 2025-01-01, for every page
_RANDOM = """(() => { let s = 1; Math.random = () => {
  s = (s * 48271) % 2147483647; return s / 2147483647; }; })()"""
_AXE = """tags => axe.run(document, {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"]})"""
_TALLEST = 10_000
_TRIES = 5
_TIMEOUT_MS = 15_000


class _Still(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        del format, args


def main() -> None:
    """Look at what `/qe/spec.json` names; the report is `/out/pages.json`, with an image for each shot."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    fonts = Path("/tmp/fonts.conf")  # noqa: S108 - this file system is ours alone
    fonts.write_text(_FONTS, "utf-8")
    os.environ["FONTCONFIG_FILE"] = str(fonts)
    binary = next((path for path in _BINARIES if Path(path).exists()), None) or shutil.which("chromium")
    report: dict[str, Any] = {"shots": [], "violations": [], "axe_problem": "", "not_loaded": []}
    try:
        with sync_playwright() as playwright, _server(spec):
            browser = playwright.chromium.launch(executable_path=binary, args=_FLAGS)
            report["browser"] = browser.version
            for ordinal, place in enumerate(spec["pages"]):
                with _address(place, spec) as address:
                    for viewport in spec["viewports"]:
                        _look(browser, {"page": ordinal, "viewport": viewport}, address, spec, report)
            browser.close()
    except (Error, OSError) as error:
        sys.exit(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    report["not_loaded"] = sorted(set(report["not_loaded"]))
    (_OUT / "pages.json").write_text(json.dumps(report), "utf-8")


def _look(
    browser: Browser, which: dict[str, Any], address: str, spec: dict[str, Any], report: dict[str, Any]
) -> None:
    width, height = (int(part) for part in which["viewport"].split("x"))
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale="en-US",
        timezone_id="UTC",
        color_scheme="light",
        reduced_motion="reduce",
        service_workers="block",
    )
    context.set_default_timeout(_TIMEOUT_MS)
    context.clock.set_fixed_time(_NOW)
    context.add_init_script(_RANDOM)
    page = context.new_page()
    origin = "/".join(address.split("/")[:3])
    page.on("requestfailed", lambda failed: report["not_loaded"].append(failed.url.removeprefix(origin)))
    answer = page.goto(address, wait_until="load")
    if answer is None or not answer.ok:
        raise OSError(f"{address.removeprefix(origin)} isn't there: {answer.status if answer else 'nothing'}")
    _settle(page)
    image, steady = _shoot(page, width)
    name = f"{which['page']}-{which['viewport']}.png"
    (_OUT / name).write_bytes(image)
    report["shots"].append({**which, "file": name, "steady": steady})
    try:
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
        found = page.evaluate(_AXE, spec["standards"])
    except Error as error:
        report["axe_problem"] = str(error).splitlines()[0]
    else:
        report["axe"] = found["testEngine"]["version"]
        report["violations"] += [
            {
                **which,
                "rule": rule["id"],
                "impact": node["impact"] or rule["impact"],
                "help": rule["help"],
                "selector": " ".join(str(part) for part in node["target"]),
                "html": node["html"][:1000],
            }
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
    context.close()


def _settle(page: Page) -> None:
    """Wait for fonts, and for where the page leads to: one that sends elsewhere ends its own scripts."""
    for _ in range(_TRIES):
        try:
            page.evaluate("document.fonts.ready.then(() => new Promise(done => setTimeout(done, 50)))")
        except Error as error:
            if "context was destroyed" not in str(error):
                raise
            page.wait_for_load_state("load")
        else:
            return


def _shoot(page: Page, width: int) -> tuple[bytes, bool]:
    """The whole page once it has come to rest, and whether it has."""
    before = b""
    for _ in range(_TRIES):
        height = min(_TALLEST, int(page.evaluate("document.documentElement.scrollHeight")))
        box: Any = {"x": 0, "y": 0, "width": width, "height": height}  # the page may have grown since
        image = page.screenshot(full_page=True, clip=box, animations="disabled")
        if image == before:
            return image, True
        before = image
        time.sleep(0.1)
    return before, False


@contextlib.contextmanager
def _address(place: dict[str, str], spec: dict[str, Any]) -> Generator[str]:
    """Where a page is: on the project's own server, or on one for its folder."""
    if spec["command"]:
        yield f"http://127.0.0.1:{spec['port']}{place['path']}"
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Still, directory=place["root"]))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{place['path']}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _server(spec: dict[str, Any]) -> Generator[None]:
    """The project's own server, once it takes connections."""
    if not spec["command"]:
        yield
        return
    env = {**os.environ, "PATH": f"/env/bin:{os.environ['PATH']}"}
    with Path("/tmp/server.log").open("wb") as log:  # noqa: S108 - this file system is ours alone
        process = subprocess.Popen(spec["command"], stdout=log, stderr=subprocess.STDOUT, env=env)
    try:
        ends = time.monotonic() + spec["start_s"]
        while not _takes_connections(spec["port"]):
            if process.poll() is not None or time.monotonic() > ends:
                said = Path("/tmp/server.log").read_text("utf-8", "replace").strip().splitlines()  # noqa: S108
                last = said[-1] if said else "it printed nothing"
                raise OSError(f"the project's server takes no connections on port {spec['port']}: {last}")
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _takes_connections(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
