"""Our programs inside the sandbox, going wrong in the ways of `qefleet.testing.broken`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qefleet.testing.broken import Way
from qefleet.testing.ground import LocalGround
from qefleet.workspace.sandbox import Limits
from qefleet.workspace.workspace import WorkspaceRun

_PROGRAMS: dict[Way, str] = {
    "crashing": "import os; os.kill(os.getpid(), 11)",
    "hanging": "import time; time.sleep(3600)",
    "rubbish": "print('}{ 0x'); [open(f'/out/{n}', 'w').write('}{ 0x') for n in NAMES]",
    "nothing": "pass",
}


@dataclass(frozen=True)
class BrokenProgram:
    """A ground where one program of `tools/inside` is broken, such as `qe_suite`."""

    ground: LocalGround
    program: str
    way: Way

    @property
    def project(self) -> Path:
        return self.ground.project

    @property
    def python(self) -> str:
        return self.ground.python

    @property
    def tools_python(self) -> str:
        return self.ground.tools_python

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
        laid = dict(files or {})
        path = f"/qe/{self.program}.py"
        if path in laid:
            laid[path] = _PROGRAMS[self.way].replace("NAMES", repr([*collect])).encode()
            if self.way == "hanging":
                limits = replace(limits or Limits(), wall_s=1.0)
        return await self.ground.run(argv, files=laid, collect=collect, env=env, limits=limits, tools=tools)
