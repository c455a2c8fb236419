"""Where untrusted code runs: code under test, code that a model wrote, build back ends.

On Linux that is bubblewrap: a file system of its own without the host's data, no network, a process
namespace that dies as a whole, a user that isn't root, limits on time, memory, processes, files and
output. What a run writes lies in one capped tmpfs and is gone with it; `files` go in and `collect` comes
out over a socket, so that neither side opens the other's files. `_inside.py` is the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, Self

from qefleet.errors import SandboxUnavailable

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use; the first limit that it meets ends it with all its processes."""

    wall_s: float = 120.0
    cpu_s: float = 600.0
    """For each process."""
    memory_bytes: int = 2 * GIB
    """For all processes together, and for each."""
    address_bytes: int | None = None
    """Of address space, for each process, used or only reserved; four times the memory without it.
    Browsers reserve far more than any machine has."""
    file_bytes: int = 256 * MIB
    """For each file."""
    scratch_bytes: int = GIB
    """For all that is written below /src, /out, /qe, /tmp and /dev/shm together; it lies in memory."""
    scratch_files: int = 200_000
    processes: int = 256
    output_bytes: int = MIB
    """Of what is printed, kept half from the beginning and half from the end; a hundredfold stops the run."""
    collect_bytes: int = 64 * MIB
    """For all collected files together."""


@dataclass(frozen=True)
class Mount:
    """A host folder or file that a run sees."""

    host: Path
    inside: str
    writable: bool = False
    """Writes reach the host: for preparing an environment, never for code under test."""
    layered: bool = False
    """Writes succeed and are gone with the run."""


@dataclass(frozen=True)
class Finished:
    """How a run ended."""

    argv: tuple[str, ...]
    exit_code: int | None
    """128 + n when signal n ended it; None when it was stopped at a limit."""
    output: bytes
    """Standard output and error as they came, head and tail when it was too much."""
    truncated: bool
    timed_out: bool
    duration_s: float
    confined: bool
    stopped: Literal["time", "memory", "output"] | None = None
    """The limit at which it was stopped."""
    outputs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """The collected files by the name under which they were asked for; missing ones are left out."""

    @property
    def text(self) -> str:
        """The output for people."""
        return self.output.decode("utf-8", "replace")


class Runner(Protocol):
    """One way to run a command; `Sandbox` chooses it once."""

    confined: bool

    async def run(
        self,
        argv: Sequence[str],
        *,
        mounts: Sequence[Mount],
        cwd: str,
        env: Mapping[str, str],
        limits: Limits,
        egress: Path | None,
        files: Mapping[str, bytes],
        collect: Sequence[str],
    ) -> Finished:
        """See `Sandbox.run`."""
        ...


class Sandbox:
    """Runs commands confined, as `detect` found possible on this machine."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def confined(self) -> bool:
        """False only where the user agreed to run without a sandbox."""
        return self._runner.confined

    @classmethod
    def detect(cls, *, unsafe: bool = False, scratch_root: Path) -> Self:
        """Choose the way to run code on this machine, and try it once.

        Args:
            unsafe: Run code as plain processes of this user. The caller has the user's word for it.
            scratch_root: Folder for what runs need outside of memory: sockets, and the copies that
                unconfined runs work on.

        Raises:
            SandboxUnavailable: Code can't be confined here; the message says why and what to do.
        """
        # Imported here because both need the classes above.
        from qefleet.workspace import _bubblewrap, _unconfined  # noqa: PLC0415

        scratch_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if unsafe:
            return cls(_unconfined.Unconfined(scratch_root))
        runner = _bubblewrap.Bubblewrap.find()
        if reason := runner.refusal():
            raise SandboxUnavailable(
                f"untrusted code can't be confined here: {reason}. Allow unprivileged user namespaces "
                "(sysctl kernel.apparmor_restrict_unprivileged_userns=0, or "
                "kernel.unprivileged_userns_clone=1), or run the fleet with docker compose, or, for "
                "repositories that you trust, pass --unsafe-no-sandbox."
            )
        return cls(runner)

    async def run(
        self,
        argv: Sequence[str],
        *,
        mounts: Sequence[Mount] = (),
        cwd: str = "/tmp",  # noqa: S108  a path inside the sandbox
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        egress: Path | None = None,
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
    ) -> Finished:
        """Run one command and everything that it starts; when this returns or is cancelled, all are gone.

        Args:
            argv: Program and arguments; nothing is passed through a shell.
            mounts: What it sees besides the system's programs.
            cwd: Working directory inside.
            env: Added to PATH, HOME, USER and LANG; nothing else is in its environment.
            limits: When to stop it.
            egress: Socket of the proxy through which it may reach the network; nothing without it.
            files: Files to write first: absolute paths inside, below a writable place.
            collect: Files to read back when it has ended: absolute paths inside.

        Raises:
            SandboxUnavailable: The sandbox itself couldn't be built.
        """
        return await self._runner.run(
            argv,
            mounts=mounts,
            cwd=cwd,
            env={**base_environment(), **(env or {})},
            limits=limits or Limits(),
            egress=egress,
            files=files or {},
            collect=collect,
        )


def base_environment() -> dict[str, str]:
    """What every run finds in its environment."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",  # noqa: S108  a path inside the sandbox
        "USER": "qe",
        "LOGNAME": "qe",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
