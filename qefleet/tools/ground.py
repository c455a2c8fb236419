"""Where tools run their programs: the part of a workspace that they need, and the way in.

A protocol, so that a tool is written against five lines and not against how workspaces are made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Protocol

from qefleet.workspace.sandbox import Finished, Limits


class Outcome(Protocol):
    """What a run in a workspace gives."""

    @property
    def finished(self) -> Finished:
        """How it ended."""
        ...

    @property
    def outputs(self) -> Mapping[str, bytes]:
        """The collected files that were there."""
        ...


class Ground(Protocol):
    """A materialised project with its environment; each run starts from the same files."""

    @property
    def project(self) -> Path:
        """The project's folder on this machine: to read, never to write or to execute."""
        ...

    @property
    def python(self) -> str:
        """The environment's interpreter, as a path inside."""
        ...

    @property
    def tools_python(self) -> str:
        """The interpreter of the fleet's own environment, as a path inside a run with `tools`."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, bytes] = ...,
        collect: Sequence[str] = ...,
        env: Mapping[str, str] = ...,
        limits: Limits = ...,
        tools: bool = ...,
    ) -> Outcome:
        """Run a program in `/src`, with `files` laid over it, and read back files from `/out`.

        With `tools`, the fleet's own environment is there too, to read.
        """
        ...


async def run_program(
    ground: Ground,
    program: str,
    spec: Any,
    *,
    files: Mapping[str, bytes] | None = None,
    collect: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    limits: Limits,
    tools: bool = False,
    beside: bool = False,
) -> Outcome:
    """Run one of our programs of `tools/inside` with the target's interpreter, or the fleet's own.

    Args:
        ground: Where to run it.
        program: Its module's name.
        spec: What it reads from `/qe/spec.json`.
        files: Further files, by path relative to the project or absolute under `/qe`.
        collect: Names under `/out` to read back.
        env: Further environment variables.
        limits: What it may use.
        tools: Run it with the interpreter of the fleet's own environment, isolated from the target's.
        beside: Run it with the target's interpreter, and show it the fleet's own environment too.
    """
    laid = {f"/qe/{name}.py": program_source(name) for name in (program, "qe_pytest_plugin")}
    laid["/qe/spec.json"] = json.dumps(spec).encode()
    interpreter = [ground.tools_python, "-I"] if tools else [ground.python]
    return await ground.run(
        [*interpreter, f"/qe/{program}.py"],
        files={**laid, **(files or {})},
        collect=collect,
        env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", **(env or {})},
        limits=limits,
        tools=tools or beside,
    )


def program_source(program: str) -> bytes:
    """One of our programs of `tools/inside`, as it is laid into a run under `/qe`."""
    return package_files("qefleet.tools.inside").joinpath(f"{program}.py").read_bytes()


def read_json(content: bytes | None) -> Any | None:
    """A JSON file that code under test may have written over; None when it is missing or no JSON."""
    if content is None:
        return None
    try:
        return json.loads(content)
    except ValueError:
        return None
