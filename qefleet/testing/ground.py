"""A project's folder and a virtual environment as a place to run tools in, without snapshot and database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qefleet.workspace.sandbox import Limits, Mount, Sandbox
from qefleet.workspace.workspace import TOOLS_PYTHON, WorkspaceRun, own_environment


@dataclass(frozen=True)
class LocalGround:
    """Runs programs in the real sandbox over a folder as it stands; the folder is never written."""

    project: Path
    environment: Path
    """A virtual environment with pytest, coverage and Hypothesis."""
    sandbox: Sandbox

    @property
    def python(self) -> str:
        """The environment's interpreter, inside."""
        return "/env/bin/python"

    @property
    def tools_python(self) -> str:
        """The interpreter of this process's environment, inside a run with `tools`."""
        return TOOLS_PYTHON

    async def run(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        tools: bool = False,
    ) -> WorkspaceRun:
        """Run a program in `/src`; see `Ground.run`."""
        laid = {
            (path if path.startswith("/") else f"/src/{path}"): body for path, body in (files or {}).items()
        }
        finished = await self.sandbox.run(
            argv,
            mounts=[
                Mount(self.project, "/src", layered=True),
                Mount(self.environment, "/env"),
                *(own_environment() if tools else ()),
            ],
            cwd="/src",
            env={"PYTHONPATH": "/src:/src/src", **(env or {})},
            limits=limits,
            files=laid,
            collect=[f"/out/{name}" for name in collect],
        )
        outputs = {path.removeprefix("/out/"): content for path, content in finished.outputs.items()}
        return WorkspaceRun(finished, outputs)
