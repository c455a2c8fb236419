"""Tools of the fleet's own environment, run in the sandbox over a project, and how that can go wrong.

A report counts only when the tool ended as it does when it has done its work, and its report could be read:
a tool that is missing, crashes, hangs, prints rubbish, or says that all is well and leaves nothing gives a
`ToolRun` where there was one, a reason, and no value.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Generic, TypeVar

from qefleet.contracts.measured import ArtifactRef, Measured, Metric, ToolRun, Unmeasured
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground, program_source, run_program
from qefleet.workspace.sandbox import Finished, Limits

T = TypeVar("T")

_LAST_CHARS = 300


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that measures.

    Args:
        name: As people know it.
        module: Run by `python -m` in the fleet's own environment; the name's without it.
        inside: For a library: one of our programs of `tools/inside` that calls it, run in place of a module.
        distribution: That brings it; the name's without it.
        extra: Of qefleet, with which it is installed; the plain package without it.
        program: For one of the system's own: what is looked for on PATH, in place of a module.
        package: For a program of the system's: Debian's package that has it.
        done: Exit codes with which its report counts.
    """

    name: str
    module: str = ""
    inside: str = ""
    distribution: str = ""
    extra: str = ""
    program: str = ""
    package: str = ""
    done: frozenset[int] = frozenset({0})

    def version(self) -> str | None:
        """Of what is installed; `found` for a program of the system's; None where there is none."""
        if self.program:
            return "found" if shutil.which(self.program) else None
        try:
            return metadata.version(self.distribution or self.name)
        except metadata.PackageNotFoundError:
            return None

    @property
    def how_to_install(self) -> str:
        """For people, where it is missing."""
        if self.program:
            return f"install the system's package {self.package or self.program}"
        what = f"qefleet[{self.extra}]" if self.extra else self.distribution or self.name
        return f"`pip install '{what}'` where the worker runs"


@dataclass(frozen=True, kw_only=True)
class ToolReport(Generic[T]):
    """What a tool's run gave: a value, or the reason why there is none."""

    run: ToolRun | None
    """With its `problem` where there is no value; None where the tool was left out on purpose."""
    value: T | None
    reason: str = ""
    artifacts: tuple[tuple[ArtifactRef, bytes], ...] = ()
    """To keep under the hashes that `run` names."""

    def metric(self, number: Callable[[T], float], *, unit: str, tool: int) -> Metric:
        """A number of the value; unmeasured where there is none.

        Args:
            number: Picks it.
            unit: Of the number.
            tool: Index of `run` in the measurement's tools.
        """
        if self.value is None:
            return Unmeasured(reason=self.reason)
        return Measured(value=number(self.value), unit=unit, tool=tool)


async def run_tool(
    ground: Ground,
    tool: Tool,
    arguments: Sequence[str],
    *,
    read: Callable[[bytes], T],
    report: str = "stdout",
    media_type: str = "application/json",
    files: Mapping[str, bytes] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
    limits: Limits | None = None,
) -> ToolReport[T]:
    """Run a tool over the project, and read its report.

    Args:
        ground: The project's workspace; the tool works in `/src` and has no network.
        tool: What to run.
        arguments: Its own.
        read: Makes the value of the report's bytes; raises ValueError or its like for what is none.
        report: Name below `/out` that the arguments make it write; what it prints, without it.
        media_type: Of the report.
        files: Further files, by path relative to the project or absolute under `/qe`.
        env: Further environment variables.
        timeout_s: Wall time after which it is stopped.
        limits: What else it may use.
    """
    version = tool.version()
    if version is None:
        return not_installed(tool)
    program = [f"/qe/{tool.inside}.py"] if tool.inside else ["-m", tool.module or tool.name]
    argv = [ground.tools_python, "-I", *program, *arguments]
    laid = {f"/qe/{tool.inside}.py": program_source(tool.inside)} if tool.inside else {}
    outcome = await run_program(
        ground,
        "qe_tool",
        {"argv": argv, "tool": tool.name},
        files={**laid, **(files or {})},
        collect=[report],
        env=env,
        limits=replace(limits or Limits(), wall_s=timeout_s, cpu_s=timeout_s),
        tools=True,
    )
    return read_report(
        tool,
        version,
        argv=argv,
        finished=outcome.finished,
        content=outcome.outputs.get(report),
        read=read,
        name=f"{tool.name}.{_ENDINGS.get(media_type, 'txt')}",
        media_type=media_type,
    )


def not_installed(tool: Tool) -> ToolReport[Any]:
    """What a tool's run gives that never was."""
    reason = f"{tool.name} isn't installed: {tool.how_to_install}"
    run = ToolRun(
        tool=tool.name, version="not installed", argv=[], exit_code=None, duration_s=0.0, problem=reason
    )
    return ToolReport(run=run, value=None, reason=reason)


def without_value(report: ToolReport[T], reason: str) -> ToolReport[T]:
    """The report of a tool whose answer doesn't count after all."""
    run = report.run and report.run.model_copy(update={"problem": reason})
    return replace(report, run=run, value=None, reason=reason)


def read_report(
    tool: Tool,
    version: str,
    *,
    argv: Sequence[str],
    finished: Finished,
    content: bytes | None,
    read: Callable[[bytes], T],
    name: str,
    media_type: str = "application/json",
) -> ToolReport[T]:
    """Read what a tool has left, and tell why it doesn't count where it doesn't.

    Args:
        tool: What was run.
        version: Its version.
        argv: How it was run.
        finished: How that ended.
        content: Its report, if it left one.
        read: Makes the value of it; raises ValueError or its like for what is none.
        name: The report's file name for people.
        media_type: Of the report.
    """
    artifacts: list[tuple[ArtifactRef, bytes]] = []
    value: T | None = None
    reason = ""
    if finished.exit_code not in tool.done:
        how = f"was stopped at its limit of {finished.stopped}" if finished.stopped else None
        how = how or f"ended with exit code {finished.exit_code}"
        reason = f"{tool.name} {how}: {_last_line(finished.text)}"
    elif not content:
        reason = f"{tool.name} ended with exit code {finished.exit_code} and left no report"
    else:
        try:
            value = read(content)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reason = f"{tool.name} left a report that can't be read ({type(error).__name__}: {error})"[:500]
    if content:
        artifacts.append((reference(content, name=name, media_type=media_type), content))
    kept = artifacts[0][0] if artifacts else None
    log = None
    if reason and finished.output:
        log = reference(finished.output, name=f"{tool.name}.log", media_type="text/plain")
        artifacts.append((log, finished.output))
    run = ToolRun(
        tool=tool.name,
        version=version,
        argv=list(argv),
        exit_code=finished.exit_code,
        duration_s=finished.duration_s,
        artifact=kept,
        log=log,
        problem=reason,
    )
    return ToolReport(run=run, value=value, reason=reason, artifacts=tuple(artifacts))


_ENDINGS = {"application/json": "json", "application/xml": "xml", "application/sarif+json": "sarif"}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LAST_CHARS] if lines else "it printed nothing"
