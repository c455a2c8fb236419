"""Install a project and its test dependencies: the only program that runs with a way to the network.

Reads `/qe/plan.json`, writes `/out/report.json` and `/out/generated.tar`. It runs as one file under the
target's interpreter, which may be older than ours, and starts uv for all the rest. One attempt installs
everything together; when that fails, each part is tried by itself, so that one broken extra costs a note
and not the run.
"""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from typing import Any

AWAY = re.compile(
    r"error sending request|connection (?:refused|reset)|dns error|timed out|tunnel|request failed after|"
    r"HTTP status (?:server error|client error \(429)|error trying to connect",
    re.IGNORECASE,
)
"""What uv says when it is the network's fault."""
_UV = "/opt/uv"
_LOWER = "/.lower0"
"""The project's files as they were, beside `/src`, where builds write."""
_GENERATED_MAX = 200 * (1 << 20)
_NOT_GENERATED = {"__pycache__", ".eggs", "dist", ".git", "build", "target", ".pytest_cache"}
_LINES_AROUND = " \u2502\u2570\u2500\u25b6\u00d7\u251c\t"


def main() -> None:
    """Carry out the plan and report."""
    with open("/qe/plan.json", encoding="utf-8") as file:
        plan = json.load(file)
    shutil.copytree("/base", "/env", symlinks=True, dirs_exist_ok=True)
    report = Installation(plan).run()
    pack_generated()
    with open("/out/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


class Installation:
    """One project's installation into `/env`."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._tools: list[str] = plan["tools"]
        self._notes: list[str] = []
        self._complaint = ""

    def run(self) -> dict[str, Any]:
        """What was installed, and what wasn't and why."""
        pins = self._plan["pins"]
        done = self._everything() or self._part_by_part() if pins is None else self._pinned(pins)
        return {
            "installed": done,
            "notes": self._notes,
            "complaint": self._complaint[-4000:],
            "pins": _freeze(),
        }

    def _pinned(self, pins: list[str]) -> bool:
        with open("/qe/pins.txt", "w", encoding="utf-8") as file:
            file.write("\n".join(pins))
        if pins and not self._uv_install("--no-deps", "-r", "/qe/pins.txt"):
            return False
        return not self._plan["install"] or self._project("--no-deps")

    def _everything(self) -> bool:
        plan = self._plan
        words = [*plan["packages"], *self._tools]
        if plan["install"]:
            extras = ",".join(plan["extras"])
            words += ["-e", f"/src[{extras}]" if extras else "/src"]
        for group in plan["groups"]:
            words += ["--group", group]
        for name in plan["files"]:
            words += ["-r", name]
        return self._uv_install(*words)

    def _part_by_part(self) -> bool:
        plan = self._plan
        if plan["install"] and not self._project():
            return False
        for extra in plan["extras"]:
            self._optional(f"extra {extra}", "-e", f"/src[{extra}]")
        for group in plan["groups"]:
            self._optional(f"dependency group {group}", "--group", group)
        for name in plan["files"]:
            self._optional(name, "-r", name)
        if plan["packages"] and not self._uv_install(*plan["packages"]):
            for package in plan["packages"]:
                self._optional(package, package)
        return self._uv_install(*self._tools)

    def _project(self, *options: str) -> bool:
        """The project itself: editable, else as a copy, else only what it depends on."""
        if self._uv_install(*options, "-e", "/src"):
            return True
        why = self._reason()
        if AWAY.search(self._complaint):
            return False
        if self._uv_install(*options, "/src"):
            self._notes.append(f"installed as a copy, since it can't be installed editable: {why}")
            return True
        dependencies: list[str] = self._plan["dependencies"]
        if options or (dependencies and self._uv_install(*dependencies)):
            self._notes.append(
                f"not installed, only its dependencies are; it is imported from its folder: {why}"
            )
            return True
        return False

    def _optional(self, name: str, *words: str) -> None:
        if not self._uv_install(*words):
            self._notes.append(f"not installed: {name} ({self._reason()})")

    def _uv_install(self, *words: str) -> bool:
        done = subprocess.run(
            [
                _UV,
                "pip",
                "install",
                "--python",
                "/env/bin/python",
                "--color",
                "never",
                "--no-progress",
                *words,
            ],
            cwd="/src",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        text = done.stdout.decode("utf-8", "replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        if done.returncode != 0:
            self._complaint = text
        return done.returncode == 0

    def _reason(self) -> str:
        """The first telling line of uv's last complaint."""
        lines = [line.strip(_LINES_AROUND) for line in self._complaint.splitlines() if line.strip()]
        telling = [
            line for line in lines if re.search("error|because|fail|no solution|invalid", line, re.IGNORECASE)
        ]
        return (telling or lines or ["no reason given"])[0][:300]


def _freeze() -> list[str]:
    done = subprocess.run(
        [_UV, "pip", "freeze", "--python", "/env/bin/python", "--exclude-editable", "--color", "never"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return sorted(line.strip() for line in lines if line.strip() and "file:///src" not in line)


def pack_generated() -> None:
    """Keep files that the build made or changed below `/src`: versions, extension modules."""
    total = 0
    with tarfile.open("/out/generated.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for place, folders, files in os.walk("/src"):
            folders[:] = sorted(
                name
                for name in folders
                if name not in _NOT_GENERATED and not name.endswith((".egg-info", ".dist-info"))
            )
            for name in sorted(files):
                path = os.path.join(place, name)
                inner = os.path.relpath(path, "/src")
                if name.endswith(".pyc") or os.path.islink(path) or not os.path.isfile(path):
                    continue
                before = os.path.join(_LOWER, inner)
                if os.path.isfile(before) and filecmp.cmp(before, path, shallow=False):
                    continue
                total += os.path.getsize(path)
                if total > _GENERATED_MAX:
                    sys.exit("the build made more than 200 MB of files in the project")
                tar.add(path, inner, recursive=False)


if __name__ == "__main__":
    main()
