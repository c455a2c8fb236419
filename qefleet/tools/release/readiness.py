"""The checklist of a release: each line from what a tool has reported, or from the run's own results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from packaging.version import InvalidVersion, Version

from qefleet.contracts.measured import Unmeasured
from qefleet.contracts.readiness import Check, ReadinessHistory
from qefleet.contracts.runs import AgentResult, Decision
from qefleet.tools.program import ToolReport
from qefleet.tools.release.distributions import Built, Wheel, missing_modules
from qefleet.tools.release.inventory import UNKNOWN
from qefleet.tools.release.pins import Installed

T = TypeVar("T")

_HARMLESS = ("W002",)
"""Of check-wheel-contents: equal files, which every package with empty `__init__.py` files may have."""
_NEEDED_HEADERS = ("Name", "Version", "Summary", "Requires-Python")
_LISTED = 5


def of_report(
    check_id: str,
    asks: str,
    report: ToolReport[T],
    problem: Callable[[T], str],
    *,
    blocks: bool,
) -> Check:
    """A line that a tool's report decides.

    Args:
        check_id: Its id.
        asks: What has to hold.
        report: What the tool has reported.
        problem: What is wrong with its value; empty where nothing is.
        blocks: Nothing is to be released without it.
    """
    if report.value is None:
        return Check(id=check_id, asks=asks, status="unmeasured", blocks=blocks, why=report.reason)
    return decided(check_id, asks, problem(report.value), blocks=blocks)


def decided(check_id: str, asks: str, problem: str, *, blocks: bool) -> Check:
    """A line about which all is known."""
    return Check(
        id=check_id, asks=asks, status="failed" if problem else "passed", blocks=blocks, why=problem[:600]
    )


def build_problem(built: Built) -> str:
    """Why the build gave nothing."""
    if built.complaint:
        return built.complaint
    lacking = [name for name, ending in (("wheel", ".whl"), ("sdist", ".tar.gz")) if not built.of(ending)]
    return f"it built no {' and no '.join(lacking)}" if lacking else ""


def twine_problem(verdicts: Mapping[str, str]) -> str:
    """Which distributions an index would refuse, or show without a description."""
    return "; ".join(
        f"{name}: {verdict}" for name, verdict in sorted(verdicts.items()) if verdict != "PASSED"
    )


def contents_problem(complaints: Sequence[str]) -> str:
    """What is wrong in a wheel."""
    return "; ".join(line for line in complaints if not line.startswith(_HARMLESS))


def install_problem(answers: Mapping[str, str]) -> str:
    """Why the wheel can't be installed, or which of its modules can't be imported."""
    if "" in answers:
        return answers[""]
    broken = [f"import {module}: {why}" for module, why in sorted(answers.items()) if why]
    return "; ".join(broken) if answers else "it brings no module"


def of_wheel(wheel: Wheel, project: Path, *, version: str | None) -> Iterator[Check]:
    """Lines that the wheel's own content decides.

    Args:
        wheel: As it was read.
        project: The project's folder.
        version: What is to be released, where somebody said so.
    """
    missing = missing_modules(project, wheel)
    more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
    yield decided(
        "wheel-complete",
        "the wheel has every module of the packages that it brings",
        f"it lacks {', '.join(missing[:_LISTED])}{more}" if missing else "",
        blocks=True,
    )
    absent = [name for name in _NEEDED_HEADERS if name not in wheel.headers]
    yield decided(
        "metadata",
        "the metadata has a name, a version, a summary and the Python versions",
        f"it has no {', '.join(absent)}" if absent else "",
        blocks=False,
    )
    own = wheel.headers.get("Version", "")
    others = [
        f"{file} says {stated}" for file, stated in wheel.stated_versions.items() if not _equal(stated, own)
    ]
    yield decided(
        "version-consistent",
        "`__version__` is the version of the metadata",
        f"the metadata says {own}, {', '.join(others)}" if others else "",
        blocks=False,
    )
    if version is not None:
        yield decided(
            "version-asked",
            "the distributions have the version that is to be released",
            "" if _equal(version, own) else f"they have {own}, and {version} is to be released",
            blocks=True,
        )


def of_inventory(
    installed: ToolReport[Installed],
    components: ToolReport[dict[str, str]],
    licences: ToolReport[dict[str, str]],
    denied: Sequence[str],
) -> Iterator[Check]:
    """Lines about what the project needs when it runs."""
    needed: Mapping[str, str] = installed.value.needed if installed.value else {}
    unknown = "" if installed.value else installed.reason

    def asked(
        check_id: str, asks: str, report: ToolReport[T], problem: Callable[[T], str], blocks: bool
    ) -> Check:
        if unknown:
            return Check(id=check_id, asks=asks, status="unmeasured", blocks=blocks, why=unknown)
        return of_report(check_id, asks, report, problem, blocks=blocks)

    def unlisted(found: dict[str, str]) -> str:
        absent = sorted(needed.keys() - found.keys())
        return f"it has no {', '.join(absent[:_LISTED])}" if absent else ""

    def unlicensed(found: dict[str, str]) -> str:
        names = [name for name in sorted(needed) if found.get(name, UNKNOWN) == UNKNOWN]
        return f"nobody knows that of {', '.join(names[:_LISTED])}" if names else ""

    def refused(found: dict[str, str]) -> str:
        return "; ".join(
            f"{name} is under {found[name]}"
            for name in sorted(needed)
            if any(fnmatch(found.get(name, "").lower(), pattern.lower()) for pattern in denied)
        )

    yield asked(
        "sbom", "the bill of materials has all that the project needs", components, unlisted, blocks=False
    )
    yield asked(
        "licences-known", "the licence of all that it needs is known", licences, unlicensed, blocks=False
    )
    if denied:
        yield asked("licences-allowed", "none of these licences is denied", licences, refused, blocks=True)


def of_run(earlier: Sequence[AgentResult]) -> Iterator[Check]:
    """Lines about what the steps before have found; none about what no step has looked at."""
    if not earlier:
        return
    ended = [result for result in earlier if result.status in {"failed", "cancelled"}]
    yield decided(
        "run-complete",
        "every step before came to its end",
        "; ".join(f"{result.step} {result.status}" for result in ended),
        blocks=True,
    )
    yield from _counts(earlier, "run-tests", "no test fails", ("tests.failed", "tests.errors"), blocks=True)
    yield from _counts(
        earlier,
        "run-security",
        "no critical weakness and no secret is open",
        ("security.critical", "security.secrets"),
        blocks=True,
    )
    yield from _counts(
        earlier,
        "run-weaknesses",
        "no severe weakness and no vulnerable dependency is open",
        ("security.high", "security.vulnerable_dependencies"),
        blocks=False,
    )
    gate = next((result for result in reversed(earlier) if result.decision), None)
    if gate and gate.decision:
        refused = gate.decision is Decision.NO_GO
        yield decided(
            "run-gate",
            "the quality gate lets it pass",
            "" if gate.decision is Decision.GO else gate.headline,
            blocks=refused,
        )


def since_last(last: AgentResult | None, checks: Sequence[Check]) -> ReadinessHistory | None:
    """What has changed since the latest run before, where there was one."""
    if last is None or "checks" not in last.measured.details:
        return None
    before = {line["id"]: line["status"] for line in last.measured.details["checks"]}
    return ReadinessHistory(
        version=last.measured.details.get("version"),
        mended=[c.id for c in checks if c.status == "passed" and before.get(c.id) == "failed"],
        broken=[c.id for c in checks if c.status == "failed" and before.get(c.id) != "failed"],
    )


def _counts(
    earlier: Sequence[AgentResult], check_id: str, asks: str, names: Sequence[str], *, blocks: bool
) -> Iterator[Check]:
    """A line that holds where the latest value of each of these metrics is 0."""
    completed = [result.measured.metrics for result in earlier if result.status == "completed"]
    latest = {
        name: metric
        for name in names
        if (metric := next((found[name] for found in reversed(completed) if name in found), None))
    }
    if not latest:
        return
    reasons = [metric.reason for metric in latest.values() if isinstance(metric, Unmeasured)]
    if reasons:
        why = "; ".join(reasons)[:600]
        yield Check(id=check_id, asks=asks, status="unmeasured", blocks=blocks, why=why)
        return
    values = {name: metric.value for name, metric in latest.items() if not isinstance(metric, Unmeasured)}
    over = [f"{name} is {value:g}" for name, value in values.items() if value]
    yield decided(check_id, asks, "; ".join(over), blocks=blocks)


def _equal(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
