"""Build a project's sdist, and its wheel from that, with the target's interpreter and without network.

`/qe/spec.json` has the command. A build back end that the target's environment lacks is borrowed from the
fleet's own, which runs this program; `/out/build.json` says what is missing in both, `/out/dist.tar` has
what was built.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_BORROWED = Path("/out/backends")
_DIST = Path("/out/dist")
_ABSENT = 3
"""Exit code where there is no back end to build with."""
_OLD = ["setuptools >= 40.8.0"]


def main() -> int:
    """Find the back end, build, and pack what came of it; the exit code is the build's."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    there = importlib.metadata.distributions(
        path=[str(path) for path in Path("/env").glob("lib/python*/site-packages")]
    )
    own = {str(canonicalize_name(str(one.metadata["Name"]))): one.version for one in there}
    answer: dict[str, Any] = {"absent": [], "other_versions": [], "built": []}
    wanted = ["build", *_required()]
    versions = _borrow(wanted, own, answer)
    if answer["absent"]:
        status = _ABSENT
    else:
        _DIST.mkdir()
        environment = {**os.environ, **spec.get("env", {}), "PYTHONPATH": str(_BORROWED)}
        done = subprocess.run(spec["argv"], cwd="/out", env=environment, check=False)
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        answer["built"] = sorted(path.name for path in _DIST.iterdir())
        answer["other_versions"] = _unmet(wanted, versions)
        with tarfile.open("/out/dist.tar", "w") as tar:
            for name in answer["built"]:
                tar.add(_DIST / name, name)
    Path("/out/build.json").write_text(json.dumps(answer, indent=1), "utf-8")
    return status


def _required() -> list[str]:
    file = Path("/src/pyproject.toml")
    settings: dict[str, Any] = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return list(settings.get("build-system", {}).get("requires", _OLD))


def _borrow(wanted: list[str], own: dict[str, str], answer: dict[str, Any]) -> dict[str, str]:
    """Link what the target's environment lacks; by name the version of each that is there."""
    _BORROWED.mkdir()
    versions: dict[str, str] = {}
    waiting = [(text, True) for text in wanted]
    while waiting:
        text, asked = waiting.pop()
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name in versions:
            continue
        if name in own:
            versions[name] = own[name]
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if asked:
                answer["absent"].append(name)
            continue
        versions[name] = found.version
        for top in sorted({file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}):
            if not (_BORROWED / top).is_symlink():
                (_BORROWED / top).symlink_to(str(found.locate_file(top)))
        waiting += [(more, False) for more in found.requires or []]
    answer["absent"].sort()
    return versions


def _unmet(wanted: list[str], versions: dict[str, str]) -> list[str]:
    """Requirements that another version than they ask for has to meet."""
    unmet: list[str] = []
    for text in wanted:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        version = versions.get(canonicalize_name(requirement.name))
        if version and not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement}, built with {version}")
    return unmet


if __name__ == "__main__":
    sys.exit(main())
