"""deployment-readiness: whether what would be released can be built, installed and stood for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as distribution_version
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field

from qefleet.agents.agent import Agent, Judgement, Measure, StepContext
from qefleet.agents.citations import Citation
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.contracts.base import Model
from qefleet.contracts.issues import Issue, numbered
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, Metric, ToolRun, Unmeasured
from qefleet.contracts.readiness import Check, ReadinessDetails
from qefleet.contracts.runs import Limit
from qefleet.contracts.steps import Finding
from qefleet.tools.ground import Ground
from qefleet.tools.program import ToolReport
from qefleet.tools.release.distributions import (
    BUILD,
    TWINE,
    UV,
    WHEEL_CONTENTS,
    Built,
    Wheel,
    build_distributions,
    check_contents,
    install_wheel,
    read_wheel,
    twine_check,
)
from qefleet.tools.release.inventory import CYCLONEDX, PIP_LICENSES, bill_of_materials, licences
from qefleet.tools.release.pins import Installed, find_installed
from qefleet.tools.release.readiness import (
    build_problem,
    contents_problem,
    decided,
    install_problem,
    of_inventory,
    of_report,
    of_run,
    of_wheel,
    since_last,
    twine_problem,
)

T = TypeVar("T")

_BUILD = ("builds", "an sdist and a wheel can be built")
_TWINE = ("twine", "an index takes them and can show their description")
_CONTENTS = ("wheel-contents", "the wheel has what a wheel should have and no more")
_WHEEL = ("wheel-complete", "the wheel has every module of the packages that it brings")
_INSTALLS = ("wheel-installs", "the wheel installs into an empty environment, and what it brings imports")


class DeploymentReadinessOptions(Model):
    """What is to be released, and under which conditions."""

    version: str | None = None
    """The version that is to be released; none is asked for without it."""
    denied_licences: list[str] = []
    """Patterns such as `*AGPL*`, for whatever it needs when it runs; case doesn't matter."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0
    """Of the build."""


class Risk(BaseModel):
    """One risk of releasing now."""

    check: Citation
    risk: str
    mitigation: str


class ReadinessJudgement(BaseModel):
    """The model's part: what could go wrong, and the way back."""

    summary: str
    risks: list[Risk]
    rollback_plan: list[str]
    """Steps, in order."""


@dataclass
class _Tried:
    """The lines of the checklist, and the reports that they rest on."""

    checks: list[Check] = field(default_factory=list[Check])
    runs: list[ToolRun] = field(default_factory=list[ToolRun])
    artifacts: list[tuple[ArtifactRef, bytes]] = field(default_factory=list[tuple[ArtifactRef, bytes]])

    def keep(self, report: ToolReport[T]) -> ToolReport[T]:
        """Take a report's run and artifacts over."""
        self.runs += [report.run] if report.run else []
        self.artifacts += report.artifacts
        return report


async def _measure(ctx: StepContext) -> Finding:
    options: DeploymentReadinessOptions = ctx.options
    tried = _Tried()
    async with ctx.workspace() as workspace:
        (installed, built, wheel), components, licensed = await asyncio.gather(
            _try_release(workspace, options, tried), bill_of_materials(workspace), licences(workspace)
        )
    tried.keep(components)
    tried.keep(licensed)
    tried.checks += of_inventory(installed, components, licensed, options.denied_licences)
    tried.checks += of_run(ctx.earlier)
    needed: Mapping[str, str] = installed.value.needed if installed.value else {}
    details = ReadinessDetails(
        name=wheel.headers.get("Name") if wheel else None,
        version=wheel.headers.get("Version") if wheel else None,
        distributions=sorted(built.value.files) if built.value else [],
        checks=tried.checks,
        issues=_issues(tried.checks),
        licences={name: licence for name, licence in (licensed.value or {}).items() if name in needed},
        history=since_last(await ctx.last(), tried.checks),
    )
    lines = [check.model_dump(mode="json") for check in tried.checks]
    checklist = await ctx.artifacts.put(
        json.dumps(lines, indent=1).encode(), name="checklist.json", media_type="application/json"
    )
    tools = [*tried.runs, _checklist_run(checklist)]
    return Finding(
        measurement=Measurement(
            metrics=_metrics(tried.checks, tool=len(tools) - 1),
            tools=tools,
            details=details.model_dump(mode="json"),
        ),
        headline=_headline(details),
        artifacts=[*await keep_all(ctx.artifacts, tried.artifacts), checklist],
        notes=_notes(built.value),
        evidence=await keep_evidence(ctx.artifacts, _evidence(details)),
    )


async def _try_release(
    ground: Ground, options: DeploymentReadinessOptions, tried: _Tried
) -> tuple[ToolReport[Installed], ToolReport[Built], Wheel | None]:
    """Build what would be released, and look at it."""
    installed = tried.keep(await find_installed(ground))
    version = _own_version(installed.value)
    built = tried.keep(await build_distributions(ground, version=version, timeout_s=options.timeout_s))
    tried.checks.append(of_report(*_BUILD, built, build_problem, blocks=True))
    if built.value is not None and not built.value.files:
        return installed, built, None
    absent = installed.value.absent if installed.value else ()
    return installed, built, await _check_distributions(ground, options, built, tried, absent=absent)


async def _check_distributions(
    ground: Ground,
    options: DeploymentReadinessOptions,
    built: ToolReport[Built],
    tried: _Tried,
    *,
    absent: Sequence[str],
) -> Wheel | None:
    """What the tools say of the sdist and the wheel; without a wheel nobody knows."""
    files: Mapping[str, bytes] = built.value.files if built.value else {}
    found = built.value.of(".whl") if built.value else None
    if found is None:
        why = "there is no wheel to look at"
        tried.checks += [
            Check(id=check_id, asks=asks, status="unmeasured", blocks=blocks, why=why)
            for (check_id, asks), blocks in (
                (_TWINE, True),
                (_CONTENTS, False),
                (_WHEEL, True),
                (_INSTALLS, True),
            )
        ]
        return None
    twine = tried.keep(await twine_check(ground, files))
    tried.checks.append(of_report(*_TWINE, twine, twine_problem, blocks=_is_refused(twine)))
    contents = tried.keep(await check_contents(ground, *found))
    tried.checks.append(of_report(*_CONTENTS, contents, contents_problem, blocks=False))
    try:
        wheel = read_wheel(found[1])
    except ValueError as error:
        tried.checks += [decided(*line, str(error), blocks=True) for line in (_WHEEL, _INSTALLS)]
        return None
    tried.checks += of_wheel(wheel, ground.project, version=options.version)
    install = tried.keep(await install_wheel(ground, *found, wheel.modules))
    line = of_report(*_INSTALLS, install, install_problem, blocks=True)
    if line.status == "failed" and absent:
        why = f"{', '.join(absent)}, which it depends on, isn't installed here: {line.why}"
        line = line.model_copy(update={"status": "unmeasured", "why": why})
    tried.checks.append(line)
    return wheel


def _is_refused(twine: ToolReport[dict[str, str]]) -> bool:
    """A warning blocks nothing: an index takes a package without a description."""
    return twine.value is None or "FAILED" in twine.value.values()


def _own_version(installed: Installed | None) -> str | None:
    if installed is None or installed.project is None:
        return None
    return installed.installed.get(installed.project)


def _metrics(checks: Sequence[Check], *, tool: int) -> dict[str, Metric]:
    """Counts; how many fail isn't known where nobody knows of one."""

    def count(found: Sequence[Check]) -> Measured:
        return Measured(value=len(found), unit="checks", tool=tool)

    def known(found: Sequence[Check], unknown: Sequence[Check]) -> Metric:
        if unknown:
            return Unmeasured(reason="; ".join(f"{check.id}: {check.why}" for check in unknown)[:1000])
        return count(found)

    failed = [check for check in checks if check.status == "failed"]
    unknown = [check for check in checks if check.status == "unmeasured"]
    return {
        "readiness.checks_passed": count([check for check in checks if check.status == "passed"]),
        "readiness.checks_failed": known(failed, unknown),
        "readiness.checks_unmeasured": count(unknown),
        "readiness.blockers": known(
            [check for check in failed if check.blocks], [check for check in unknown if check.blocks]
        ),
    }


def _issues(checks: Sequence[Check]) -> list[Issue]:
    """Failed lines about what was built; what the run has found is reported by who found it."""
    return numbered(
        Issue(
            id=check.id,
            tool="deployment-readiness",
            rule=check.id,
            severity="high" if check.blocks else "medium",
            message=f"{check.asks}: {check.why}",
        )
        for check in checks
        if check.status == "failed" and not check.id.startswith("run-")
    )


def _notes(built: Built | None) -> list[str]:
    others = built.other_versions if built else ()
    return [f"built with another version than it asks for: {other}" for other in others]


def _evidence(details: ReadinessDetails) -> dict[str, Any]:
    return {
        "name": details.name,
        "version": details.version,
        "distributions": details.distributions,
        "checks": [check.model_dump(mode="json") for check in details.checks],
        "dependencies": sorted(details.licences)[:50],
        "history": details.history.model_dump(mode="json") if details.history else None,
    }


def _checklist_run(checklist: ArtifactRef) -> ToolRun:
    return ToolRun(
        tool="checklist",
        version=distribution_version("qefleet"),
        argv=["checklist"],
        exit_code=0,
        duration_s=0.0,
        artifact=checklist,
    )


def _headline(details: ReadinessDetails) -> str:
    failed = [check.id for check in details.checks if check.status == "failed"]
    unknown = [check.id for check in details.checks if check.status == "unmeasured"]
    text = f"{len(details.checks) - len(failed) - len(unknown)} of {len(details.checks)} checks pass"
    text += f"; failed: {', '.join(failed)}" if failed else ""
    return text + (f"; unknown: {', '.join(unknown)}" if unknown else "")


DEPLOYMENT_READINESS = Agent(
    id="deployment-readiness",
    title="deployment-readiness",
    purpose="Builds, checks and installs what would be released; lists materials, licences, open findings.",
    tier="complex",
    tools=(BUILD, TWINE, WHEEL_CONTENTS, UV, CYCLONEDX, PIP_LICENSES),
    measures=(
        Measure("readiness.checks_passed", "checks"),
        Measure("readiness.checks_failed", "checks"),
        Measure("readiness.checks_unmeasured", "checks"),
        Measure("readiness.blockers", "checks", limit=Limit(max=0)),
    ),
    options=DeploymentReadinessOptions,
    measure=_measure,
    judgement=Judgement(prompt="deployment-readiness", response=ReadinessJudgement),
    memory_key="deployment/decision",
    memory_reads=("notes/*", "approvals/*"),
)
