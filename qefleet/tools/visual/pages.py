"""A project's pages in a headless browser: which there are, how they look, what axe-core says of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qefleet.contracts.issues import Issue, Severity, issue_id
from qefleet.contracts.measured import ArtifactRef, ToolRun
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import Tool, ToolReport, not_installed, read_report
from qefleet.workspace.archive import safe_path
from qefleet.workspace.sandbox import GIB, Limits

CHROMIUM = Tool(name="chromium", program="chromium", package="chromium")
PLAYWRIGHT = Tool(name="playwright", extra="visual")
AXE = Tool(name="axe-core", distribution="axe-playwright-python", extra="visual")
PILLOW = Tool(name="pillow", extra="visual")

_SITES = ("docs", "public", "site", "static", "www")
"""Folders whose HTML files are pages; links from their root are meant from there."""
_NO_PAGES = {"templates", "_templates", "node_modules", "theme", "themes"}
_MOST_BYTES = 4 << 20
_SEVERITIES: dict[str, Severity] = {
    "critical": "critical",
    "serious": "high",
    "moderate": "medium",
    "minor": "low",
}
"""By what axe-core calls impact."""
_LIMITS = Limits(memory_bytes=4 * GIB, address_bytes=1 << 42, processes=512, collect_bytes=512 << 20)
"""Chromium reserves more than a terabyte of address space, and uses little of it."""


@dataclass(frozen=True, kw_only=True)
class ProjectServer:
    """How a project serves its pages itself."""

    command: Sequence[str]
    port: int
    start_s: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """One page at one viewport."""

    page: str
    viewport: str
    name: str
    steady: bool
    image: bytes


@dataclass(frozen=True, kw_only=True)
class Looks:
    """All pages at all viewports."""

    browser: str
    """Chromium's version."""
    axe: str
    """axe-core's version; empty where it gave no verdict."""
    axe_problem: str
    looks: tuple[Look, ...]
    violations: tuple[Issue, ...]
    """One for each element that breaks a rule, at whatever viewport; not yet numbered."""
    not_loaded: tuple[str, ...]


def find_pages(project: Path, *, most: int) -> list[str]:
    """HTML files of a project's site folders, as paths relative to it; templates are none.

    Args:
        project: The project's folder; nothing in it is executed.
        most: The first so many, in alphabetical order.
    """
    found = sorted(
        path.relative_to(project).as_posix()
        for site in _SITES
        if (project / site).is_dir() and not (project / site).is_symlink()
        for path in _html_files(project / site)
    )
    return found[:most]


def _html_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_PAGES and not name.startswith((".", "_"))]
        for name in names:
            path = Path(place, name)
            if path.suffix in {".html", ".htm"} and not path.is_symlink() and path.is_file():
                yield path


def image_name(page: str, viewport: str) -> str:
    """The name of a screenshot among artifacts and in a folder of baselines."""
    stem = page.split("?", 1)[0].strip("/").replace("/", "__") or "index"
    return f"{stem}__{viewport}.png"


async def look_at_pages(
    ground: Ground,
    pages: Sequence[str],
    *,
    viewports: Sequence[str],
    standards: Sequence[str],
    server: ProjectServer | None = None,
    timeout_s: float = 300.0,
) -> ToolReport[Looks]:
    """Load pages in Chromium, inside the sandbox, where nothing but the project's own server answers.

    Args:
        ground: The project's workspace.
        pages: Paths of HTML files relative to the project; with `server` paths of its URLs.
        viewports: Such as `390x844`.
        standards: Tags of axe-core's rules, such as `wcag2aa`.
        server: Of the project's own; its HTML files are served from their site folder without it.
        timeout_s: Wall time after which all is stopped.
    """
    for tool in (CHROMIUM, PLAYWRIGHT, AXE):
        if tool.version() is None:
            return not_installed(tool)
    spec = {
        "pages": [_place(page, own_server=server is not None) for page in pages],
        "viewports": list(viewports),
        "standards": list(standards),
        "command": list(server.command) if server else [],
        "port": server.port if server else 0,
        "start_s": server.start_s if server else 0,
    }
    outcome = await run_program(
        ground,
        "qe_pages",
        spec,
        collect=["pages.json", *(f"{n}-{viewport}.png" for n in range(len(pages)) for viewport in viewports)],
        limits=replace(_LIMITS, wall_s=timeout_s, cpu_s=timeout_s),
        tools=True,
    )
    report = read_report(
        CHROMIUM,
        "unknown",
        argv=["chromium", "--headless", *pages],
        finished=outcome.finished,
        content=outcome.outputs.get("pages.json"),
        read=lambda content: _read(content, outcome.outputs, pages, ground.project),
        name="pages.json",
    )
    if report.value is None or report.run is None:
        return report
    return replace(report, run=report.run.model_copy(update={"version": report.value.browser}))


def axe_run(looks: Looks, kept: ArtifactRef | None, standards: Sequence[str]) -> ToolRun:
    """axe-core's part of a look: it ran within the browser's own time."""
    return ToolRun(
        tool=AXE.name,
        version=looks.axe or AXE.version() or "unknown",
        argv=["axe.run", *standards],
        exit_code=1 if looks.axe_problem else 0,
        duration_s=0.0,
        artifact=kept,
        problem=f"axe-core gave no verdict: {looks.axe_problem}"[:500] if looks.axe_problem else "",
    )


def _place(page: str, *, own_server: bool) -> dict[str, str]:
    if own_server:
        return {"path": page}
    first, _, rest = page.partition("/")
    if first in _SITES and rest:
        return {"root": f"/src/{first}", "path": rest}
    return {"root": "/src", "path": page}


def _read(content: bytes, images: Mapping[str, bytes], pages: Sequence[str], project: Path) -> Looks:
    report: dict[str, Any] = json.loads(content)
    looks = tuple(
        Look(
            page=pages[int(shot["page"])],
            viewport=shot["viewport"],
            name=image_name(pages[int(shot["page"])], shot["viewport"]),
            steady=bool(shot["steady"]),
            image=images[shot["file"]],
        )
        for shot in report["shots"]
    )
    if not looks:
        raise ValueError("no screenshot")
    violations: dict[tuple[str, str, str], Issue] = {}
    sources: dict[str, str] = {}
    for found in report["violations"]:
        page = pages[int(found["page"])]
        source = sources.setdefault(page, _source(project, page))
        key = (page, found["rule"], found["selector"])
        violations.setdefault(key, _issue(found, page, source))
    return Looks(
        browser=str(report["browser"]),
        axe=str(report.get("axe", "")),
        axe_problem=str(report["axe_problem"]),
        looks=looks,
        violations=tuple(violations.values()),
        not_loaded=tuple(str(url)[:200] for url in report["not_loaded"]),
    )


def _source(project: Path, page: str) -> str:
    """The text of a page that is a file of the project."""
    file = project / page.lstrip("/")
    inside = safe_path(page.lstrip("/")) and not file.is_symlink() and file.is_file()
    if not inside or not file.resolve().is_relative_to(project.resolve()):
        return ""
    return file.read_text("utf-8", "replace") if file.stat().st_size <= _MOST_BYTES else ""


def _issue(found: Mapping[str, Any], page: str, source: str) -> Issue:
    rule, opening = str(found["rule"]), str(found["html"]).partition(">")[0]
    place = source.find(opening) if source.count(opening) == 1 else -1
    line = source.count("\n", 0, place) + 1 if place >= 0 else None
    where = str(found["selector"]) if source else f"{page} {found['selector']}"
    return Issue(
        id=issue_id(rule, page, line),
        tool=AXE.name,
        rule=rule,
        severity=_SEVERITIES.get(str(found["impact"]), "low"),
        message=f"{where}: {found['help']} (first seen at {found['viewport']})"[:500],
        path=page if source else None,
        line=line,
    )
