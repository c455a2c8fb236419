"""Which build of the fleet this is: what tells the workers of one version from those of another."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from pathlib import Path

from temporalio.common import WorkerDeploymentVersion

from worker.services.environment import plain_environment
from worker.settings import Settings

DEPLOYMENT = "qefleet"
"""The name under which Temporal knows all workers of the fleet."""

_ROOT = Path(__file__).resolve().parents[1]
_SOURCES = ("workflows", "qefleet/contracts")
"""What decides how a history is replayed."""
_COMMIT_DIGITS = 12
_GIT_TIMEOUT_S = 10.0


def deployment_version(settings: Settings) -> WorkerDeploymentVersion:
    """This build as Temporal's worker versioning names it; `QE_BUILD_ID` goes first."""
    named = settings.rollout.build_id
    return WorkerDeploymentVersion(
        deployment_name=DEPLOYMENT, build_id=named or build_id(_ROOT, plain_environment(settings))
    )


def build_id(root: Path, env: Mapping[str, str]) -> str:
    """The package's version, and the commit or a digest of the workflows' sources.

    Two builds whose workflows differ never share one: a checkout whose workflows were edited since the
    commit has the digest too, and what was installed from a wheel has nothing else.

    Args:
        root: The folder that holds the packages.
        env: For git; without variables that would lead it elsewhere.
    """
    parts = [installed_version("qefleet")]
    commit = _git(root, env, "rev-parse", f"--short={_COMMIT_DIGITS}", "HEAD")
    if commit:
        parts.append(commit)
    if not commit or _git(root, env, "status", "--porcelain", "--", *_SOURCES) != "":
        parts.append(_digest(root))
    return "-".join(parts)


def _git(root: Path, env: Mapping[str, str], *arguments: str) -> str | None:
    """What git says of the checkout; None where the packages don't lie in one of their own."""
    # A user's environment may be in a repository of theirs, whose commit says nothing of us.
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=env,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:_COMMIT_DIGITS]
