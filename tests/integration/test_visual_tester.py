"""Pages of planted sites in real Chromium: what moved, by how much, and whom they shut out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from agent_context import Alone, KeptInMemory, measure_alone
from planted_project import write_project

from qefleet.agents.visual_tester import VISUAL_TESTER
from qefleet.contracts.changes import Changes
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.visual.pages import CHROMIUM, find_pages
from qefleet.workspace.sandbox import GIB, Limits, Sandbox
from qefleet.workspace.workspace import WorkspaceRun

needs_chromium = pytest.mark.skipif(
    CHROMIUM.version() is None, reason=f"Chromium isn't installed here: {CHROMIUM.how_to_install}"
)
_ONE = {"viewports": ["400x300"]}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title>
<link rel="stylesheet" href="/style.css"></head>
<body><main><h1>Shop</h1>
{body}
</main></body></html>
"""
_BUTTON = (
    '<button style="position:absolute;left:{left}px;top:150px;width:80px;height:30px;border:0;'
    'background:#003366" aria-label="Buy"></button>'
)
_STYLE = "body { background: #ffffff; color: #111111 }\n"
_SHUTS_OUT = """<img src="logo.png">
<p style="color:#bbbbbb">hardly to be read</p>
"""
_METRICS = {
    "visual.pages",
    "visual.compared_pages",
    "visual.new_pages",
    "visual.changed_pages",
    "visual.changed_pixels",
    "visual.accessibility_violations",
    "visual.accessibility_serious",
}


def _site(folder: Path, body: str, **more: str) -> Path:
    return write_project(
        folder, {"docs/index.html": _PAGE.format(body=body), "docs/style.css": _STYLE, **more}
    )


@dataclass
class Sites:
    """Looks at sites, each in a folder of its own."""

    root: Path
    environment: Path
    sandbox: Sandbox

    def ground(self, body: str, **more: str) -> LocalGround:
        folder = self.root / f"site{len(list(self.root.iterdir()))}"
        return LocalGround(_site(folder, body, **more), self.environment, self.sandbox)


@pytest.fixture
def sites(tmp_path: Path, environment: Path, sandbox: Sandbox) -> Sites:
    return Sites(tmp_path, environment, sandbox)


def _counts(alone: Alone) -> dict[str, float | None]:
    return {name.removeprefix("visual."): alone.value(name) for name in sorted(_METRICS)}


@needs_chromium
async def test_a_button_that_moved_is_found_to_the_pixel(sites: Sites) -> None:
    """80 x 30 at 100,150, moved by 20 to the right: what differs is 20 columns left and 20 right of it."""
    kept = KeptInMemory()
    first = await measure_alone(
        VISUAL_TESTER, sites.ground(_BUTTON.format(left=100)), options=_ONE, artifacts=kept
    )
    moved = await measure_alone(
        VISUAL_TESTER,
        sites.ground(_BUTTON.format(left=120)),
        options=_ONE,
        artifacts=kept,
        last=first.result(VISUAL_TESTER),
    )

    assert first.finding.headline == (
        "1 pages at 1 viewports: 0 changed; first run, baselines made; 0 elements shut someone out"
    )
    (change,) = moved.details["changes"]
    assert change["box"] == {"x": 100, "y": 150, "width": 100, "height": 30}
    assert (change["pixels"], change["share_percent"], change["baseline"]) == (1200, 1.0, "last")
    assert (moved.value("visual.changed_pages"), moved.value("visual.changed_pixels")) == (1, 1200)
    (issue,) = moved.evidence["issues"]
    assert issue["id"] == "visual-change@docs/index.html@400x300"
    names = [artifact.name for artifact in moved.finding.artifacts]
    assert "difference__docs__index.html__400x300.png" in names
    assert moved.overhead_s < max(0.2, 0.05 * moved.took_s)


@needs_chromium
async def test_a_page_that_is_as_it_was_differs_in_no_pixel(sites: Sites) -> None:
    """Though it is animated, tells the time and draws lots; and axe-core has nothing against it."""
    restless = (
        _BUTTON.format(left=100) + "<style>@keyframes f { from { width: 9px } to { width: 99px } }"
        "#b { animation: f 1s infinite; background: #000; height: 9px }</style><div id=b></div><p id=t></p>"
        "<script>t.textContent = Date.now() + ' ' + Math.random()</script>"
    )
    kept, ground = KeptInMemory(), sites.ground(restless)
    first = await measure_alone(VISUAL_TESTER, ground, artifacts=kept)
    again = await measure_alone(VISUAL_TESTER, ground, artifacts=kept, last=first.result(VISUAL_TESTER))

    assert _counts(again) == {
        "pages": 1,
        "compared_pages": 1,
        "new_pages": 0,
        "changed_pages": 0,
        "changed_pixels": 0,
        "accessibility_violations": 0,
        "accessibility_serious": 0,
    }
    assert first.details["shots"] == again.details["shots"]
    assert all(shot["steady"] for shot in again.details["shots"])
    assert again.details["not_loaded"] == []
    assert (again.evidence, again.finding.notes) == (None, [])
    chromium, axe, pillow = again.finding.measurement.tools
    assert [run.tool for run in (chromium, axe, pillow)] == ["chromium", "axe-core", "pillow"]
    assert chromium.version.count(".") == 3
    assert axe.version.count(".") == 2


@needs_chromium
async def test_an_image_without_text_and_a_faint_paragraph_are_found(sites: Sites) -> None:
    alone = await measure_alone(VISUAL_TESTER, sites.ground(_SHUTS_OUT))

    found = [(it["rule"], it["severity"], it["path"], it["line"], it["id"]) for it in alone.details["issues"]]
    assert found == [
        ("image-alt", "critical", "docs/index.html", 5, "image-alt@docs/index.html:5"),
        ("color-contrast", "high", "docs/index.html", 6, "color-contrast@docs/index.html:6"),
    ]
    assert alone.details["issues"][0]["message"].startswith("img: ")
    assert alone.value("visual.accessibility_violations") == 2
    assert alone.value("visual.accessibility_serious") == 2
    assert alone.details["not_loaded"] == []  # a missing image answers 404, it does not fail


@needs_chromium
async def test_images_of_the_project_are_the_baselines_before_any_other(sites: Sites) -> None:
    kept = KeptInMemory()
    first = await measure_alone(
        VISUAL_TESTER, sites.ground(_BUTTON.format(left=100)), options=_ONE, artifacts=kept
    )
    ground = sites.ground(_BUTTON.format(left=120))
    (shot,) = first.details["shots"]
    (ground.project / "tests/visual").mkdir(parents=True)
    (ground.project / "tests/visual" / shot["name"]).write_bytes(kept.kept[shot["digest"]])
    now = await measure_alone(VISUAL_TESTER, ground, options=_ONE)

    assert [change["baseline"] for change in now.details["changes"]] == ["project"]

    (ground.project / "tests/visual" / shot["name"]).write_text("version https://git-lfs.github.com/spec/v1")
    pointer = await measure_alone(VISUAL_TESTER, ground, options=_ONE)

    assert "baseline of the project is no image" in pointer.reason("visual.changed_pixels")
    assert pointer.value("visual.accessibility_violations") == 0


@needs_chromium
async def test_in_diff_mode_the_base_is_the_baseline(sites: Sites) -> None:
    """What it had before is known; what is new is counted."""
    base = sites.ground(_SHUTS_OUT)
    ground = sites.ground(_SHUTS_OUT + '<input type="text">')
    alone = await measure_alone(
        VISUAL_TESTER, ground, options=_ONE, base=base, changes=Changes({"docs/index.html": [(7, 7)]})
    )

    known = {issue["rule"]: issue["known"] for issue in alone.details["issues"]}
    assert known == {"image-alt": True, "color-contrast": True, "label": False, "visual-change": False}
    assert alone.value("visual.accessibility_new") == 1
    assert [change["baseline"] for change in alone.details["changes"]] == ["base"]
    assert alone.evidence["changed_files"] == ["docs/index.html"]


@needs_chromium
async def test_a_taller_page_differs_by_what_was_added(sites: Sites) -> None:
    kept = KeptInMemory()
    tall = '<div style="position:absolute;left:0;top:0;width:1px;height:{}px"></div>'
    first = await measure_alone(VISUAL_TESTER, sites.ground(tall.format(500)), options=_ONE, artifacts=kept)
    now = await measure_alone(
        VISUAL_TESTER,
        sites.ground(tall.format(510)),
        options=_ONE,
        artifacts=kept,
        last=first.result(VISUAL_TESTER),
    )

    (change,) = now.details["changes"]
    assert change["box"] == {"x": 0, "y": 500, "width": 400, "height": 10}
    assert change["pixels"] == 4000


@needs_chromium
async def test_pages_of_the_projects_own_server_are_looked_at(sites: Sites) -> None:
    """Started inside the sandbox, with the project's interpreter."""
    server = (
        "import http.server\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if self.path == '/about' else 404)\n"
        "        self.send_header('Content-Type', 'text/html')\n"
        "        self.end_headers()\n"
        f"        self.wfile.write({_PAGE.format(body=_SHUTS_OUT)!r}.encode())\n"
        "http.server.HTTPServer(('127.0.0.1', 8123), H).serve_forever()\n"
    )
    options: dict[str, Any] = {**_ONE, "command": ["python", "serve.py"], "port": 8123}
    ground = sites.ground("", **{"serve.py": server})
    alone = await measure_alone(VISUAL_TESTER, ground, options={**options, "pages": ["/about"]})
    absent = await measure_alone(VISUAL_TESTER, ground, options={**options, "pages": ["/nothing"]})
    dead = await measure_alone(
        VISUAL_TESTER, ground, options={**options, "command": ["python", "-c", "raise SystemExit('no db')"]}
    )

    assert alone.details["shots"][0]["name"] == "about__400x300.png"
    assert [it["id"] for it in alone.details["issues"]] == ["image-alt@/about", "color-contrast@/about"]
    assert "/nothing isn't there: 404" in absent.reason("visual.pages")
    assert "takes no connections on port 8123: no db" in dead.reason("visual.changed_pages")


def test_pages_are_html_files_of_site_folders_without_templates(tmp_path: Path) -> None:
    names = ("docs/b.html", "docs/a.htm", "public/x/y.html", "docs/_templates/t.html", "src/z.html")
    write_project(tmp_path / "p", dict.fromkeys(names, "<p>"))

    assert find_pages(tmp_path / "p", most=9) == ["docs/a.htm", "docs/b.html", "public/x/y.html"]
    assert find_pages(tmp_path / "p", most=1) == ["docs/a.htm"]


async def test_a_project_without_pages_has_none(sites: Sites) -> None:
    ground = sites.ground("")
    shutil.rmtree(ground.project / "docs")
    alone = await measure_alone(VISUAL_TESTER, ground)

    assert set(_counts(alone).values()) == {0}
    assert alone.finding.headline.startswith("no page found")


@needs_chromium
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", ["qe_pages", "qe_pixels"])
async def test_a_broken_tool_measures_nothing(sites: Sites, program: str, way: Way) -> None:
    """Without a comparison the browser's own figures stand; without the browser nothing does."""
    ground = sites.ground("")
    alone = await measure_alone(VISUAL_TESTER, BrokenTools(ground, program, way), options=_ONE)

    said = {
        "crashing": "exit code 139",
        "hanging": "limit of time",
        "rubbish": "can't be read",
        "nothing": "left no report",
    }
    unmeasured = {name for name in _METRICS if alone.value(name) is None}
    still = {"visual.pages", "visual.accessibility_violations", "visual.accessibility_serious"}
    assert unmeasured == (_METRICS if program == "qe_pages" else _METRICS - still)
    assert all(said[way] in alone.reason(name) for name in unmeasured)


@needs_chromium
async def test_a_browser_that_dies_measures_nothing(sites: Sites) -> None:
    """Chromium itself, given less address space than it reserves."""

    class Cramped(LocalGround):
        async def run(self, *args: Any, limits: Limits | None = None, **options: Any) -> WorkspaceRun:
            small = replace(limits or Limits(), address_bytes=4 * GIB)
            return await super().run(*args, limits=small, **options)

    roomy = sites.ground("")
    alone = await measure_alone(
        VISUAL_TESTER, Cramped(roomy.project, roomy.environment, roomy.sandbox), options=_ONE
    )

    assert {alone.value(name) for name in _METRICS} == {None}
    assert "chromium ended with exit code 1: TargetClosedError" in alone.reason("visual.pages")


async def test_a_missing_browser_says_how_to_install_it(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = sites.ground("")
    monkeypatch.setenv("PATH", str(sites.root))
    alone = await measure_alone(VISUAL_TESTER, ground)
    (run,) = alone.finding.measurement.tools

    assert run.problem == alone.reason("visual.pages")

    assert {alone.value(name) for name in _METRICS} == {None}
    assert alone.reason("visual.pages") == ("chromium isn't installed: install the system's package chromium")


@needs_chromium
async def test_a_page_that_sends_elsewhere_is_looked_at_where_it_leads(sites: Sites) -> None:
    sends = "<!doctype html><script>location.replace('index.html')</script>"
    ground = sites.ground(_SHUTS_OUT, **{"docs/old.html": sends})
    alone = await measure_alone(VISUAL_TESTER, ground, options=_ONE)

    assert alone.value("visual.pages") == 2
    assert len({shot["digest"] for shot in alone.details["shots"]}) == 1
