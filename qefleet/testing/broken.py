"""Tools that go wrong, each in its own way, in a place where all else works."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from qefleet.testing.ground import LocalGround
from qefleet.workspace.sandbox import Limits
from qefleet.workspace.workspace import WorkspaceRun

Way = Literal["crashing", "hanging", "rubbish", "nothing"]
WAYS: tuple[Way, ...] = get_args(Way)

_HANGS_S = 1.0
_PROGRAMS: dict[Way, str] = {
    "crashing": "import os; os.kill(os.getpid(), 11)",
    "hanging": "import time; time.sleep(3600)",
    "rubbish": "import sys; print('}{ 0x'); [open(f'/out/{n}', 'w').write('}{ 0x') for n in sys.argv[1:]]",
    "nothing": "pass",
}


@dataclass(frozen=True)
class BrokenTools:
    """A ground where one tool of the fleet's own environment is broken.

    Args:
        ground: Where everything else is run.
        module: The tool's, as `python -m` names it; its own name where a program of ours calls it;
            a program of `tools/inside` that is the tool, such as `qe_pages`.
        way: How it is broken.
    """

    ground: LocalGround
    module: str
    way: Way

    @property
    def project(self) -> Path:
        """As the ground's."""
        return self.ground.project

    @property
    def python(self) -> str:
        """As the ground's."""
        return self.ground.python

    @property
    def tools_python(self) -> str:
        """As the ground's."""
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
        """Run a program, or what stands in for the broken tool; see `Ground.run`."""
        laid = dict(files or {})
        spec: dict[str, Any] = json.loads(laid.get("/qe/spec.json", b"{}"))
        command: list[str] = spec.get("argv", [])
        if tools and (["-m", self.module] == command[2:4] or spec.get("tool") == self.module):
            reports = [name for name in collect if name != "stdout"]
            broken = [command[0], "-c", _PROGRAMS[self.way], *reports]
            laid["/qe/spec.json"] = json.dumps({**spec, "argv": broken}).encode()
            if self.way == "hanging":
                limits = replace(limits or Limits(), wall_s=_HANGS_S)
        program = f"/qe/{self.module}.py"
        if program in argv:
            laid[program] = f"import sys\nsys.argv[1:] = {[*collect]!r}\n{_PROGRAMS[self.way]}\n".encode()
            if self.way == "hanging":
                limits = replace(limits or Limits(), wall_s=_HANGS_S)
        return await self.ground.run(argv, files=laid, collect=collect, env=env, limits=limits, tools=tools)
