"""What hostile programs run in, and what they must not find."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from qefleet.workspace.sandbox import Finished, Limits, Mount, Sandbox

INTERPRETER = os.path.realpath(sys.executable)
CANARY = "canary-7f3a9c51-do-not-leak"
SMALL = Limits(
    wall_s=8,
    cpu_s=8,
    memory_bytes=256 << 20,
    file_bytes=32 << 20,
    scratch_bytes=64 << 20,
    scratch_files=2000,
    processes=64,
    output_bytes=64 << 10,
)


@dataclass(frozen=True)
class Attacker:
    """Runs hostile programs as a worker would, beside a process that holds a secret."""

    sandbox: Sandbox
    project: Path
    marker: str

    async def run(self, program: str, *arguments: str, limits: Limits = SMALL) -> Finished:
        """Run a Python program; `sys.argv[1]` is the marker that all its processes carry."""
        return await self.sandbox.run(
            [INTERPRETER, "-c", program, self.marker, *arguments],
            mounts=[Mount(self.project, "/src", layered=True)],
            cwd="/src",
            limits=limits,
            collect=("/out/result", "/out/nested/result"),
        )

    def survivors(self) -> list[str]:
        """Command lines of processes on this machine that an attack has left."""
        return [
            " ".join(process.info["cmdline"])[:200]
            for process in psutil.process_iter(["cmdline"])
            if any(self.marker in word for word in process.info["cmdline"] or ())
        ]
