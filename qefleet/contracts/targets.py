"""What a run looks at: where it comes from, and the content that was found there."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from qefleet.contracts.base import Digest, Model

_PYPI = re.compile(
    r"^(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==(?P<version>[A-Za-z0-9.!+_-]+))?$"
)
_GIT = re.compile(
    r"^git\+(?P<url>(?:https?|ssh|file)://[^@\s]+(?:@[^@/\s]+/[^@\s]+)?)(?:@(?P<ref>[^@\s]+))?$"
)


class Target(Model):
    """What to look at: a folder, a commit of a git repository, or a released package.

    Written as a string (`/path`, `git+https://host/repo@ref`, `pypi:name==version`) or as an object.
    """

    kind: Literal["path", "git", "pypi"]
    location: Annotated[str, Field(min_length=1, max_length=4096)]
    """An absolute folder, a git URL, or a package's name."""
    ref: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """A git ref or commit, or a package's version; the newest without it."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return parse_target(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if self.kind == "path" and not self.location.startswith("/"):
            raise ValueError("a folder must be given as an absolute path")
        if self.kind == "git" and not re.match(r"^(https?|ssh|file)://", self.location):
            raise ValueError("a git URL starts with https://, http://, ssh:// or file://")
        if self.kind == "pypi" and not _PYPI.match(self.location):
            raise ValueError("not a package name")
        if self.kind == "git" and _holds_secret(self.location):
            raise ValueError("a git URL must hold no password: leave credentials to git's credential helper")
        if (self.ref or "").startswith("-") or "\x00" in self.location + (self.ref or ""):
            raise ValueError("contains characters that no ref, version or path has")
        return self

    def __str__(self) -> str:
        match self.kind:
            case "path":
                return self.location
            case "git":
                return f"git+{self.location}" + (f"@{self.ref}" if self.ref else "")
            case "pypi":
                return f"pypi:{self.location}" + (f"=={self.ref}" if self.ref else "")


def _holds_secret(url: str) -> bool:
    """Whether a password or token stands in it; `ssh://git@host` holds none."""
    parts = urlsplit(url)
    return parts.password is not None or (parts.scheme in ("http", "https") and parts.username is not None)


def parse_target(text: str) -> dict[str, str | None]:
    """Read a target's short form.

    Raises:
        ValueError: The text has none of the three forms; the message names them.
    """
    if text.startswith("/"):
        return {"kind": "path", "location": text}
    if text.startswith("pypi:") and (found := _PYPI.match(text.removeprefix("pypi:"))):
        return {"kind": "pypi", "location": found["name"], "ref": found["version"]}
    if found := _GIT.match(text):
        return {"kind": "git", "location": found["url"], "ref": found["ref"]}
    raise ValueError("a target is an absolute path, git+https://…@ref, or pypi:name==version")


class Snapshot(Model):
    """A target's files, content-addressed: the same bytes have the same digest everywhere."""

    digest: Digest
    name: str
    """The project's name, for people."""
    version: str | None = None
    """A version, commit or null for a plain folder."""
    files: int
    size_bytes: int
    changes: Digest | None = None
    """Artifact with what changed since `base`, see `Changes`; in diff mode only."""
    churn: Digest | None = None
    """Artifact with the number of commits that touched each file, as JSON; in diff mode only."""
    base: Snapshot | None = None
    """The same target at the commit where it branched off; in diff mode only."""


class Environment(Model):
    """The Python environment in which a snapshot's code runs, as resolved once."""

    digest: Digest
    """Of the interpreter's version and the pinned requirements."""
    requirements: Digest
    """Artifact: the pinned requirements, one a line."""
    python: str
    """Version of the interpreter, such as `3.11.7`."""
    packages: int
    notes: list[str] = []
    """What could not be installed, for people; empty when all went well."""
