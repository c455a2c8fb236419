"""One small run in a sandbox, as a process of its own: does this machine let bubblewrap work?

Ends with 0 when it does; else the last line on standard error says why not.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from qefleet.errors import SandboxUnavailable
from qefleet.workspace._bubblewrap import Bubblewrap
from qefleet.workspace.sandbox import Limits


async def main(program: Path) -> str | None:
    """Why it doesn't work, or None."""
    try:
        done = await Bubblewrap(program).run(
            ["/bin/sh", "-c", "echo > /tmp/tried && echo > /dev/shm/tried"],
            mounts=(),
            cwd="/tmp",  # noqa: S108  a path inside the sandbox
            env={"PATH": "/usr/bin:/bin"},
            limits=Limits(wall_s=20),
            egress=None,
            files={},
            collect=(),
        )
    except SandboxUnavailable as error:
        return str(error)
    return None if done.exit_code == 0 else f"a trial run ended with {done.exit_code}: {done.text.strip()}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
