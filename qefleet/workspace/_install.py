"""Install a project and its test dependencies, inside the sandbox: the only run that has network.

Reads `/qe/plan.json`, writes `/out/report.json` and `/out/generated.tar`. It runs under the target's
interpreter with nothing but the standard library, and starts uv for all the rest. One attempt installs
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

_UV = "/opt/uv"
_LOWER = "/.lower0"
_GENERATED_MAX = 200 * (1 << 20)
_NOT_GENERATED = {"__pycache__", ".eggs", "dist", ".git", "build", "target", ".pytest_cache"}
_AWAY = re.compile(
    "error sending request|connection (?:refused|reset)|dns error|timed out|tunnel|"
    "HTTP status (?:server error|client error \\(429)|error trying to connect|Request failed after",
    re.IGNORECASE,
)


def main():
    with open("/qe/plan.json", encoding="utf-8") as file:
        plan = json.load(file)
    shutil.copytree("/base", "/env", symlinks=True, dirs_exist_ok=True)
    report = Installation(plan).run()
    report["generated"] = pack_generated()
    with open("/out/report.json", "w", encoding="utf-8") as file:
        json.dump(report, file)


class Installation:
    def __init__(self, plan):
        self.plan = plan
        self.notes = []
        self.complaint = ""

    def run(self):
        plan = self.plan
        if plan.get("pins") is not None:
            done = self.pinned(plan["pins"])
        else:
            done = self.everything() or self.part_by_part()
        return {
            "installed": done,
            "notes": self.notes,
            "complaint": self.complaint[-4000:],
            "away": bool(_AWAY.search(self.complaint)),
            "pins": self.freeze(),
        }

    def pinned(self, pins):
        with open("/tmp/pins.txt", "w", encoding="utf-8") as file:
            file.write("\n".join(pins))
        if pins and not self.uv("install", "--no-deps", "-r", "/tmp/pins.txt"):
            return False
        return not self.plan["install"] or self.uv("install", "--no-deps", "-e", "/src") or self.uv("install", "--no-deps", "/src")

    def everything(self):
        plan = self.plan
        words = list(plan["packages"]) + list(self.tools())
        if plan["install"]:
            extras = ",".join(plan["extras"])
            words += ["-e", "/src[%s]" % extras if extras else "/src"]
        for group in plan["groups"]:
            words += ["--group", group]
        for name in plan["files"]:
            words += ["-r", name]
        return self.uv("install", *words)

    def part_by_part(self):
        plan = self.plan
        done = not plan["install"] or self.project()
        if not done:
            return False
        for extra in plan["extras"]:
            self.optional("extra " + extra, "-e", "/src[%s]" % extra)
        for group in plan["groups"]:
            self.optional("dependency group " + group, "--group", group)
        for name in plan["files"]:
            self.optional(name, "-r", name)
        if plan["packages"] and not self.uv("install", *plan["packages"]):
            for package in plan["packages"]:
                self.optional(package, package)
        return self.uv("install", *self.tools())

    def project(self):
        """The project itself: editable, else as a copy, else only what it depends on."""
        if self.uv("install", "-e", "/src"):
            return True
        why = self.last_line()
        if _AWAY.search(self.complaint):
            return False
        if self.uv("install", "/src"):
            self.notes.append("installed as a copy, since it can't be installed editable: " + why)
            return True
        if self.plan["dependencies"] and self.uv("install", *self.plan["dependencies"]):
            self.notes.append("not installed, only its dependencies are; it is imported from its folder: " + why)
            return True
        return False

    def optional(self, name, *words):
        if not self.uv("install", *words):
            self.notes.append("not installed: %s (%s)" % (name, self.last_line()))

    def tools(self):
        return self.plan["tools"]

    def uv(self, command, *words):
        done = subprocess.run(
            [_UV, "pip", command, "--python", "/env/bin/python", "--color", "never", "--no-progress", *words],
            cwd="/src", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        text = done.stdout.decode("utf-8", "replace")
        if done.returncode != 0:
            self.complaint = text
        print(text, flush=True)
        return done.returncode == 0

    def last_line(self):
        lines = [line.strip(" │╰─▶×\t") for line in self.complaint.splitlines() if line.strip()]
        telling = [line for line in lines if re.search("error|because|fail|no solution|invalid", line, re.IGNORECASE)]
        return (telling or lines or ["no reason given"])[0][:300]

    def freeze(self):
        done = subprocess.run(
            [_UV, "pip", "freeze", "--python", "/env/bin/python", "--exclude-editable", "--color", "never"],
            cwd="/tmp", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return sorted(line.strip() for line in lines if line.strip() and "file:///src" not in line)


def pack_generated():
    """Files that the build made or changed below /src, as a tar; how many were packed."""
    count = total = 0
    with tarfile.open("/out/generated.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for place, folders, files in os.walk("/src"):
            folders[:] = sorted(f for f in folders if f not in _NOT_GENERATED and not f.endswith((".egg-info", ".dist-info")))
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
                    return count
                tar.add(path, inner, recursive=False)
                count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
