"""The Python environment in which a target's code runs: built once, in a sandbox with a way to the index.

In two parts. `build_base` makes a virtual environment with our measuring tools, from wheels only, so that
nothing untrusted runs; one for all targets. `build` starts from a copy of it and installs the project and
what its tests need, with a download cache of its own, since build back ends are code of the target's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from qefleet.errors import TargetError, TransientError
from qefleet.workspace.egress import open_egress
from qefleet.workspace.index_settings import IndexSettings
from qefleet.workspace.inside import install
from qefleet.workspace.interpreters import Interpreter
from qefleet.workspace.requirements import TOOLS, Plan
from qefleet.workspace.sandbox import GIB, MIB, Finished, Limits, Mount, Sandbox

BUILD_LIMITS = Limits(
    wall_s=1800,
    cpu_s=3600,
    memory_bytes=4 * GIB,
    file_bytes=4 * GIB,
    scratch_bytes=2 * GIB,
    processes=512,
    collect_bytes=256 * MIB,
)
DISK_MAX = 8 * GIB
"""For what one installation writes to the disk."""
_LOOK_S = 2.0
_UV = "/opt/uv"
_LINES_AROUND = " \u2502\u2570\u2500\u25b6\u00d7\u251c\t"


@dataclass(frozen=True)
class Built:
    """What was installed, told by the program that did it."""

    pins: tuple[str, ...]
    notes: tuple[str, ...]
    pythonpath: tuple[str, ...]
    """Folders inside to import from, where the project itself isn't installed."""


class EnvironmentBuilder:
    """Builds environments.

    Args:
        sandbox: Where to do it.
        uv: The uv program of this machine.
        caches: Folder for downloads.
        index: The user's package index.
    """

    def __init__(self, *, sandbox: Sandbox, uv: Path, caches: Path, index: IndexSettings) -> None:
        self._sandbox = sandbox
        self._uv = uv
        self._caches = caches
        self._index = index

    async def build_base(self, folder: Path, *, interpreter: Interpreter) -> None:
        """Make `folder/venv` with the measuring tools.

        Raises:
            TargetError: They can't be installed.
            TransientError: The package index can't be reached.
        """
        venv, cache = self._folders(folder, "tools")
        order = json.dumps([_UV, interpreter.executable, list(TOOLS)])
        async with open_egress(self._index) as egress:
            made = await self._watched(
                [interpreter.executable, "-I", "-c", _MAKE, order],
                mounts=self._mounts(venv, cache, interpreter),
                env=self._environment(None),
                egress=egress,
                written=(venv, cache),
            )
        if made.exit_code != 0:
            raise _failure(made.text, "the measuring tools can't be installed")

    async def build(
        self,
        folder: Path,
        *,
        base: Path,
        project: Path,
        plan: Plan,
        interpreter: Interpreter,
        trust: str,
        scm_version: str | None,
        pins: Sequence[str] | None = None,
    ) -> Built:
        """Make `folder/venv` and `folder/generated.tar`.

        Args:
            folder: Where to put them.
            base: A folder of `build_base`.
            project: The target's files.
            plan: What to install.
            interpreter: The Python to use.
            trust: Names the target: targets never share a cache that their build back ends can write.
            scm_version: Told to build back ends that ask version control.
            pins: What was resolved before: exactly this is installed then.

        Raises:
            TargetError: The project and its dependencies can't be installed.
            TransientError: The package index can't be reached.
        """
        venv, cache = self._folders(folder, hashlib.sha256(trust.encode()).hexdigest()[:32])
        mounts = [Mount(project, "/src", layered=True), Mount(base / "venv", "/base")]
        mounts += self._mounts(venv, cache, interpreter)
        order = json.dumps(json.loads(plan.as_json()) | {"tools": list(TOOLS), "pins": pins})
        program = package_files("qefleet.workspace.inside").joinpath("install.py").read_bytes()
        async with open_egress(self._index) as egress:
            done = await self._watched(
                [interpreter.executable, "-I", "/qe/install.py"],
                mounts=mounts,
                env=self._environment(scm_version),
                egress=egress,
                written=(venv, cache),
                files={"/qe/install.py": program, "/qe/plan.json": order.encode()},
                collect=("/out/report.json", "/out/generated.tar"),
            )
        report = _report(done)
        if not report["installed"]:
            raise _failure(str(report["complaint"]), "the target can't be installed")
        await asyncio.to_thread(
            (folder / "generated.tar").write_bytes, done.outputs.get("/out/generated.tar", b"")
        )
        notes = [str(note) for note in report["notes"]]
        as_folder = not plan.install or any(note.startswith("not installed, only") for note in notes)
        return Built(
            pins=tuple(str(pin) for pin in report["pins"]),
            notes=tuple(notes),
            pythonpath=tuple(_import_folders(project)) if as_folder else (),
        )

    def _folders(self, folder: Path, cache_name: str) -> tuple[Path, Path]:
        venv, cache = folder / "venv", self._caches / cache_name
        for place in (venv, cache):
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        return venv, cache

    def _mounts(self, venv: Path, cache: Path, interpreter: Interpreter) -> list[Mount]:
        mounts = [
            Mount(venv, "/env", writable=True),
            Mount(cache, "/cache", writable=True),
            Mount(self._uv, _UV),
        ]
        mounts += [Mount(Path(prefix), prefix) for prefix in interpreter.prefixes]
        return mounts + [Mount(path, str(path)) for path in self._index.paths]

    def _environment(self, scm_version: str | None) -> dict[str, str]:
        return {
            **self._index.environment,
            **_scm_variables(scm_version),
            "UV_CACHE_DIR": "/cache",
            "UV_LINK_MODE": "copy",
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
            "UV_COMPILE_BYTECODE": "1",  # once here, instead of in every run
            "PATH": "/env/bin:/usr/local/bin:/usr/bin:/bin",
        }

    async def _watched(
        self,
        argv: Sequence[str],
        *,
        mounts: Sequence[Mount],
        env: dict[str, str],
        egress: Path,
        written: Sequence[Path],
        files: dict[str, bytes] | None = None,
        collect: Sequence[str] = (),
    ) -> Finished:
        """Run with an eye on the disk: here alone a run writes to it."""
        running = asyncio.ensure_future(
            self._sandbox.run(
                argv,
                mounts=mounts,
                env=env,
                limits=BUILD_LIMITS,
                egress=egress,
                files=files,
                collect=collect,
            )
        )
        try:
            while True:
                await asyncio.wait({running}, timeout=_LOOK_S)
                if running.done():
                    break
                if await asyncio.to_thread(_disk_usage, written) > DISK_MAX:
                    raise TargetError(
                        f"installing the target wrote more than {DISK_MAX // GIB} GB to the disk"
                    )
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running})
        finished = running.result()
        if finished.stopped:
            raise TargetError(
                f"installing the target met its limit on {finished.stopped}: {finished.text[-300:]}"
            )
        return finished


_MAKE = """
import json, subprocess, sys
uv, python, tools = json.loads(sys.argv[1])
make = [uv, "venv", "--python", python, "--allow-existing", "--quiet", "/env"]
fill = [uv, "pip", "install", "--python", "/env/bin/python", "--only-binary", ":all:", "--quiet", *tools]
sys.exit(subprocess.run(make).returncode or subprocess.run(fill).returncode)
"""


def _report(done: Finished) -> dict[str, Any]:
    """The report, which the target's build back end could have written over."""
    try:
        report = json.loads(done.outputs["/out/report.json"])
        if isinstance(report["notes"], list) and isinstance(report["pins"], list):
            return report
    except (KeyError, TypeError, ValueError) as error:
        raise _failure(done.text, "the target's installation ended without a report") from error
    raise TargetError("the target's installation left a report that can't be read")


def _failure(text: str, what: str) -> TargetError | TransientError:
    lines = [line.strip(_LINES_AROUND) for line in text.splitlines() if line.strip()]
    tail = " / ".join(lines[-6:])[-900:]
    if install.AWAY.search(text):
        return TransientError(f"{what}, the package index can't be reached: {tail}")
    return TargetError(f"{what}: {tail}")


def _scm_variables(version: str | None) -> dict[str, str]:
    """A snapshot has no version control: tell those who would ask it."""
    known = version or "0.0.0"
    return {
        "SETUPTOOLS_SCM_PRETEND_VERSION": known,
        "PDM_BUILD_SCM_VERSION": known,
        "PBR_VERSION": known,
        "POETRY_DYNAMIC_VERSIONING_BYPASS": known,
        "UV_DYNAMIC_VERSIONING_BYPASS": known,
        "VERSIONINGIT_FOR_PACKAGE_BUILD": known,
    }


def _import_folders(project: Path) -> list[str]:
    return ["/src", "/src/src"] if (project / "src").is_dir() else ["/src"]


def _disk_usage(folders: Sequence[Path]) -> int:
    total = 0
    for folder in folders:
        for place, _, files in os.walk(folder):
            for name in files:
                try:
                    total += (Path(place) / name).lstat().st_blocks * 512
                except OSError:
                    continue  # gone in the meantime
    return total
