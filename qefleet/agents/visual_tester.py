"""visual-tester: how pages look in a browser, what has changed in them, and whom they shut out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import file_items, is_about
from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.contracts.visual import BaselineFrom, Change, Shot, VisualDetails
from qefleet.errors import InvalidInput
from qefleet.memory.artifacts import ArtifactMissing, reference
from qefleet.tools.program import ToolReport
from qefleet.tools.visual.pages import (
    AXE,
    CHROMIUM,
    PILLOW,
    PLAYWRIGHT,
    Looks,
    ProjectServer,
    axe_run,
    find_pages,
    look_at_pages,
)
from qefleet.tools.visual.pixels import Compared, compare_pixels
from qefleet.workspace.archive import safe_path
from qefleet.workspace.workspace import Workspace

_JUDGED = 20
_SERIOUS = ("critical", "high")
_BASELINES: dict[BaselineFrom, str] = {
    "project": "the project's baseline",
    "base": "the base",
    "last": "the last run",
}
_COMPARISON = {
    "visual.compared_pages": "pages",
    "visual.new_pages": "pages",
    "visual.changed_pages": "pages",
    "visual.changed_pixels": "pixels",
}
_ACCESS = {"visual.accessibility_violations": "elements", "visual.accessibility_serious": "elements"}
_ACCESS_NEW = "visual.accessibility_new"

Viewport = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{2,3}x[1-9]\d{2,3}$")]
"""Width and height in CSS pixels."""


class VisualTesterOptions(Model):
    """Which pages, how they are looked at, and what they are compared with."""

    pages: Annotated[list[str], Field(max_length=100)] = []
    """HTML files of the project; with `command` paths such as `/about`.
    Without them the HTML files below docs, public, site, static and www; with `command` `/`."""
    command: list[str] = []
    """Starts the project's own server in its environment, such as `["python", "-m", "shop"]`."""
    port: Annotated[int, Field(ge=1024, le=65535)] = 8000
    """Where on 127.0.0.1 that server answers."""
    start_s: Annotated[float, Field(gt=0, le=300)] = 30.0
    """How long it may take until it does."""
    viewports: Annotated[list[Viewport], Field(min_length=1, max_length=5)] = ["390x844", "1280x800"]
    baselines: str = "tests/visual"
    """Folder of the project with the images that pages should look like, named as the artifacts are."""
    tolerance: Annotated[int, Field(ge=0, le=255)] = 8
    """Levels of a colour channel by which a pixel may differ."""
    standards: Annotated[list[str], Field(min_length=1)] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
    """Tags of the rules of axe-core that count."""
    max_pages: Annotated[int, Field(ge=1, le=100)] = 20
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 300.0

    @model_validator(mode="after")
    def _places(self) -> VisualTesterOptions:
        if not safe_path(self.baselines):
            raise ValueError("baselines: give a folder within the project")
        for page in self.pages:
            if self.command and not page.startswith("/"):
                raise ValueError(f"pages: {page!r} has to begin with / where `command` serves it")
            if not self.command and not safe_path(page):
                raise ValueError(f"pages: {page!r} is no file within the project")
        return self


class DifferenceJudgement(BaseModel):
    """Whether a difference was intended."""

    issue: Citation
    meant: Literal["yes", "no", "unclear"]
    why: str


class AccessFix(BaseModel):
    """How to let everybody in."""

    issue: Citation
    fix: str


class VisualJudgement(BaseModel):
    """The model's part: which differences are meant, and what mends the others."""

    differences: list[DifferenceJudgement]
    fixes: list[AccessFix]


async def _measure(ctx: StepContext) -> Finding:
    options: VisualTesterOptions = ctx.options
    async with ctx.workspace() as workspace:
        pages = _pages(ctx, workspace)
        if not pages:
            return await _no_pages(ctx)
        look = await _look(ctx, workspace, pages)
        if look.value is None:
            return await _unmeasured(ctx, look)
        before = await _look_at_base(ctx, pages)
        base = before.value if before else None
        last = await _last_shots(ctx)
        others: dict[BaselineFrom, dict[str, bytes]] = {}
        if base:
            others["base"] = {shot.name: shot.image for shot in base.looks}
        others["last"] = last
        pixels = await compare_pixels(
            workspace,
            look.value.looks,
            folder=options.baselines.strip("/"),
            others=others,
            tolerance=options.tolerance,
            timeout_s=options.timeout_s,
        )
    return await _finding(ctx, pages, look, pixels, before)


def _pages(ctx: StepContext, workspace: Workspace) -> list[str]:
    options: VisualTesterOptions = ctx.options
    if options.command:
        return (options.pages or ["/"])[: options.max_pages]
    for page in options.pages:
        if not (workspace.project / page).is_file():
            raise InvalidInput("options.pages", f"the project has no file {page!r}")
    pages = options.pages or find_pages(workspace.project, most=options.max_pages)
    return [page for page in pages if is_about(ctx.item, page)]


async def _look(ctx: StepContext, workspace: Workspace, pages: Sequence[str]) -> ToolReport[Looks]:
    options: VisualTesterOptions = ctx.options
    server = None
    if options.command:
        server = ProjectServer(command=options.command, port=options.port, start_s=options.start_s)
    return await look_at_pages(
        workspace,
        pages,
        viewports=options.viewports,
        standards=options.standards,
        server=server,
        timeout_s=options.timeout_s,
    )


async def _look_at_base(ctx: StepContext, pages: Sequence[str]) -> ToolReport[Looks] | None:
    """In diff mode: the pages before the change, those that there were."""
    options: VisualTesterOptions = ctx.options
    if ctx.base_workspace is None:
        return None
    async with ctx.base_workspace() as workspace:
        there = [page for page in pages if options.command or (workspace.project / page).is_file()]
        return await _look(ctx, workspace, there) if there else None


async def _last_shots(ctx: StepContext) -> dict[str, bytes]:
    """The images of this agent's last run by name, as far as they are still kept."""
    last = await ctx.last()
    try:
        details = VisualDetails.model_validate(last.measured.details if last else {})
    except ValidationError:
        return {}  # the sum of an expansion's items
    images: dict[str, bytes] = {}
    for shot in details.shots:
        try:
            images[shot.name] = await ctx.artifacts.get(shot.digest)
        except ArtifactMissing:
            continue
    return images


async def _finding(
    ctx: StepContext,
    pages: Sequence[str],
    look: ToolReport[Looks],
    pixels: ToolReport[list[Compared]],
    before: ToolReport[Looks] | None,
) -> Finding:
    assert look.value
    assert look.run
    looks, options = look.value, ctx.options
    base = before.value if before else None
    compared = pixels.value or []
    changed = [one for one in compared if one.pixels]
    issues = numbered([*_known(looks, base), *(_changed(one) for one in changed)])
    of_axe = [issue for issue in issues if issue.tool == AXE.name]
    tools: list[ToolRun] = [look.run, axe_run(looks, look.run.artifact, options.standards)]
    tools += [report.run for report in (pixels, before) if report and report.run]
    metrics: dict[str, Metric] = {"visual.pages": Measured(value=len(pages), unit="pages", tool=0)}
    metrics |= _comparison(pixels)
    metrics |= _access(ctx, looks, of_axe, before)
    refs = [(reference(it.image, name=it.name, media_type="image/png"), it.image) for it in looks.looks]
    details = VisualDetails(
        pages=list(pages),
        shots=[
            Shot(page=it.page, viewport=it.viewport, name=it.name, digest=ref.digest, steady=it.steady)
            for it, (ref, _) in zip(looks.looks, refs, strict=True)
        ],
        changes=[_change(one) for one in changed],
        without_baseline=[one.look.name for one in compared if one.baseline is None],
        not_loaded=list(looks.not_loaded),
        issues=issues,
    )
    artifacts: list[tuple[ArtifactRef, bytes]] = [*look.artifacts, *pixels.artifacts, *refs]
    if before:
        artifacts += [
            (ref.model_copy(update={"name": f"base-{ref.name}"}), it) for ref, it in before.artifacts
        ]
    artifacts += [one.difference for one in changed if one.difference]
    return Finding(
        measurement=Measurement(metrics=metrics, tools=tools, details=details.model_dump(mode="json")),
        headline=_headline(ctx, metrics, details),
        artifacts=await keep_all(ctx.artifacts, artifacts),
        notes=_notes(details),
        evidence=await keep_evidence(ctx.artifacts, _evidence(ctx, issues)) if issues else None,
        items=None if ctx.item or options.command else await ctx.keep_items(file_items(pages)),
    )


def _known(looks: Looks, base: Looks | None) -> list[Issue]:
    """What axe-core found; known is what it found in the base too, whatever its line there."""
    old = base.violations if base else ()
    before = {(issue.path, issue.rule, issue.message) for issue in old}
    return [
        issue.model_copy(update={"known": (issue.path, issue.rule, issue.message) in before})
        for issue in looks.violations
    ]


def _comparison(pixels: ToolReport[list[Compared]]) -> dict[str, Metric]:
    if pixels.value is None:
        return {name: Unmeasured(reason=pixels.reason) for name in _COMPARISON}
    compared = {one.look.page for one in pixels.value if one.baseline}
    numbers = {
        "visual.compared_pages": len(compared),
        "visual.new_pages": len({one.look.page for one in pixels.value} - compared),
        "visual.changed_pages": len({one.look.page for one in pixels.value if one.pixels}),
        "visual.changed_pixels": sum(one.pixels for one in pixels.value),
    }
    return {name: Measured(value=number, unit=_COMPARISON[name], tool=2) for name, number in numbers.items()}


def _access(
    ctx: StepContext, looks: Looks, issues: list[Issue], before: ToolReport[Looks] | None
) -> dict[str, Metric]:
    names = [*_ACCESS, *([_ACCESS_NEW] if ctx.changes else [])]
    if looks.axe_problem:
        reason = f"axe-core gave no verdict: {looks.axe_problem}"[:500]
        return {name: Unmeasured(reason=reason) for name in names}
    serious = [issue for issue in issues if issue.severity in _SERIOUS]
    numbers = dict(zip(_ACCESS, (len(issues), len(serious)), strict=True))
    metrics: dict[str, Metric] = {
        name: Measured(value=number, unit="elements", tool=1) for name, number in numbers.items()
    }
    if ctx.changes:
        new = sum(not issue.known for issue in issues)
        metrics[_ACCESS_NEW] = Measured(value=new, unit="elements", tool=1)
        if before and (before.value is None or before.value.axe_problem):
            why = before.reason or "axe-core gave no verdict"
            metrics[_ACCESS_NEW] = Unmeasured(reason=f"in the base: {why}"[:500])
    return metrics


def _change_id(one: Compared) -> str:
    return f"visual-change@{one.look.page}@{one.look.viewport}"


def _changed(one: Compared) -> Issue:
    box = one.box
    assert box
    return Issue(
        id=_change_id(one),
        tool=PILLOW.name,
        rule="visual-change",
        severity="medium",
        message=f"at {one.look.viewport} {one.pixels} pixels ({_share(one)} %) differ from "
        f"{_BASELINES[one.baseline or 'last']} within {box.width}x{box.height} at {box.x},{box.y}",
        path=None if one.look.page.startswith("/") else one.look.page,
    )


def _share(one: Compared) -> float:
    return round(100 * one.pixels / one.all_pixels, 3)


def _change(one: Compared) -> Change:
    assert one.box
    assert one.baseline
    return Change(
        issue=_change_id(one),
        page=one.look.page,
        viewport=one.look.viewport,
        baseline=one.baseline,
        pixels=one.pixels,
        share_percent=_share(one),
        box=one.box,
        difference=one.difference[0].name if one.difference else "",
    )


def _evidence(ctx: StepContext, issues: list[Issue]) -> dict[str, object]:
    kept = {"id", "rule", "severity", "message", "path", "line", "known"}
    changes_first = sorted(issues, key=lambda issue: issue.rule != "visual-change")
    shown: dict[str, object] = {
        "issues": [issue.model_dump(mode="json", include=kept) for issue in changes_first[:_JUDGED]]
    }
    if ctx.changes:
        shown["changed_files"] = sorted(ctx.changes.root)[:_JUDGED]
    return shown


def _headline(ctx: StepContext, metrics: dict[str, Metric], details: VisualDetails) -> str:
    options: VisualTesterOptions = ctx.options

    def said(name: str, text: str) -> str:
        metric = metrics[name]
        return text.format(f"{metric.value:.0f}") if isinstance(metric, Measured) else f"{name} unmeasured"

    parts = [
        f"{len(details.pages)} pages at {len(options.viewports)} viewports: "
        + said("visual.changed_pages", "{} changed")
    ]
    if details.without_baseline:
        everything = len(details.without_baseline) == len(details.shots)
        parts.append("first run, baselines made" if everything else "baselines made for new ones")
    parts.append(said("visual.accessibility_violations", "{} elements shut someone out"))
    return "; ".join(parts)


def _notes(details: VisualDetails) -> list[str]:
    notes = [f"{shot.name}: never came to rest" for shot in details.shots if not shot.steady]
    if details.not_loaded:
        notes.append(
            f"{len(details.not_loaded)} addresses that pages asked for can't be loaded here, the "
            f"first: {details.not_loaded[0]}"
        )
    return notes


async def _unmeasured(ctx: StepContext, look: ToolReport[Looks]) -> Finding:
    names = ["visual.pages", *_COMPARISON, *_ACCESS, *([_ACCESS_NEW] if ctx.changes else [])]
    return Finding(
        measurement=Measurement(
            metrics={name: Unmeasured(reason=look.reason) for name in names},
            tools=[look.run] if look.run else [],
            details=VisualDetails().model_dump(mode="json"),
        ),
        headline=f"no page could be looked at: {look.reason}",
        artifacts=await keep_all(ctx.artifacts, look.artifacts),
    )


async def _no_pages(ctx: StepContext) -> Finding:
    """Nothing to look at is measured as nothing: the list of pages was read, and is empty."""
    kept = await ctx.artifacts.put(b"[]", name="pages.json", media_type="application/json")
    run = ToolRun(
        tool="qefleet (pages)",
        version="1",
        argv=["find_pages"],
        exit_code=0,
        duration_s=0.0,
        artifact=kept,
    )
    units = {"visual.pages": "pages", **_COMPARISON, **_ACCESS}
    if ctx.changes:
        units[_ACCESS_NEW] = "elements"
    return Finding(
        measurement=Measurement(
            metrics={name: Measured(value=0, unit=unit, tool=0) for name, unit in units.items()},
            tools=[run],
            details=VisualDetails().model_dump(mode="json"),
        ),
        headline="no page found: there is no HTML file below docs, public, site, static or www",
        artifacts=[kept],
        items=None if ctx.item else await ctx.keep_items([]),
    )


_ASKED = Limit(max=0, severity="soft")

VISUAL_TESTER = Agent(
    id="visual-tester",
    title="visual-tester",
    purpose="Looks at pages in headless Chromium: what differs from baselines, and whom they shut out.",
    tier="moderate",
    tools=(CHROMIUM, PLAYWRIGHT, AXE, PILLOW),
    measures=(
        Measure("visual.pages", "pages", additive=True),
        *(
            Measure(name, unit, additive=True, limit=_ASKED if name == "visual.changed_pages" else None)
            for name, unit in _COMPARISON.items()
        ),
        *(
            Measure(name, unit, additive=True, limit=_ASKED if name.endswith("serious") else None)
            for name, unit in _ACCESS.items()
        ),
        Measure(_ACCESS_NEW, "elements", additive=True),
    ),
    options=VisualTesterOptions,
    measure=_measure,
    judgement=Judgement(prompt="visual-tester", response=VisualJudgement),
    memory_key="visual/regressions",
    memory_reads=("notes/*",),
)
