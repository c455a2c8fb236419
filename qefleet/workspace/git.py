"""The system's git, started so that nothing of a repository is executed and nobody is asked anything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from qefleet.errors import MissingTool, QeError

HARDENED = (
    "-c", "safe.directory=*",  # the target's owner may be another user; none of its code is run
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false",
    "-c", "core.pager=cat", "-c", "diff.external=", "-c", "submodule.recurse=false", "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
)  # fmt: skip
_INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


class GitFailed(QeError):
    """git ended with an error; the message is the end of what it said, `complaint` all of it."""

    def __init__(self, message: str, complaint: str = "") -> None:
        super().__init__(message)
        self.complaint = complaint or message


class Git:
    """Runs git in one folder.

    Args:
        folder: Where to run it.
        configuration: Settings passed by environment, for what must not show in a list of processes.
    """

    def __init__(self, folder: Path, *, configuration: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._environment |= {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_ASKPASS": "true",
            "LC_ALL": "C.UTF-8",
        }
        self._environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        pairs = list((configuration or {}).items())
        self._environment["GIT_CONFIG_COUNT"] = str(len(pairs))
        for number, (key, value) in enumerate(pairs):
            self._environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}

    async def run(
        self, *arguments: str, stdin: bytes = b"", timeout_s: float = 120.0, accept: Collection[int] = (0,)
    ) -> bytes:
        """Its standard output; it is killed when the caller is cancelled.

        Args:
            arguments: The command and what it takes.
            stdin: What it reads.
            timeout_s: Seconds after which it is killed.
            accept: Exit codes that are no errors.

        Raises:
            GitFailed: It ended with an error or took too long.
            MissingTool: There is no git.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *arguments,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MissingTool("git isn't installed: install the system's package `git`") from error
        try:
            async with asyncio.timeout(timeout_s):
                output, complaint = await process.communicate(stdin)
        except TimeoutError as error:
            raise GitFailed(f"git took more than {timeout_s:.0f} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await asyncio.shield(process.wait())
        if process.returncode not in accept:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise GitFailed(
                lines[-1] if lines else f"git ended with {process.returncode}", "; ".join(lines[:20])
            )
        return output
