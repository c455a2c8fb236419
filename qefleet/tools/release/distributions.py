"""A project's sdist and wheel: built, checked by the tools that package indexes trust, installed, imported.

Everything is run in the sandbox and without network. The target's own interpreter builds, with its own
build back end where its environment has one, else with the fleet's.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from qefleet.contracts.measured import ArtifactRef
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import Tool, ToolReport, not_installed, read_report, run_tool, without_value
from qefleet.tools.project import read_layout
from qefleet.workspace.sandbox import GIB, Limits

BUILD = Tool(name="build", done=frozenset({0, 1, 3}))
TWINE = Tool(name="twine", done=frozenset({0, 1}))
WHEEL_CONTENTS = Tool(name="check-wheel-contents", module="check_wheel_contents", done=frozenset({0, 1}))
UV = Tool(name="uv")

_ABSENT = 3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.(whl|tar\.gz|zip)")
_VERDICT = re.compile(
    r"^Checking (?P<file>.*): (?P<verdict>PASSED with warnings|PASSED|FAILED)", re.MULTILINE
)
_CONTENTS = re.compile(r"^.*?\.whl: (?P<code>OK|W\d+)(?:: (?P<text>.*))?$", re.MULTILINE)
_PASSING = re.compile(r"(build-via-sdist-|/tmp/tmp)\w+")
"""Names of folders that are others in each run."""
_SMALL = 4 << 20
_INSTALL_S = 120.0
_TEST_NAMES = frozenset({"test", "tests", "testing"})
_HEADERS = ("Name", "Version", "Summary", "Requires-Python", "License", "License-Expression")


@dataclass(frozen=True)
class Built:
    """What building gave."""

    files: Mapping[str, bytes]
    """Distributions by name; empty where the build failed."""
    absent: tuple[str, ...]
    """Build requirements that are neither in the target's environment nor in the fleet's."""
    other_versions: tuple[str, ...]
    """Build requirements for which another version than asked for had to do."""
    complaint: str
    """What the build said in the end, where it failed."""

    def of(self, ending: str) -> tuple[str, bytes] | None:
        """The distribution whose name ends so."""
        return next((item for item in sorted(self.files.items()) if item[0].endswith(ending)), None)


@dataclass(frozen=True)
class Wheel:
    """What is in a wheel, read without executing any of it."""

    headers: Mapping[str, str]
    """Of its metadata, those that a release has to have right."""
    modules: tuple[str, ...]
    """Top-level modules and packages that it brings, without tests."""
    names: frozenset[str]
    """Its files."""
    stated_versions: Mapping[str, str]
    """By file, the value of `__version__` where it stands there as a literal."""


async def build_distributions(ground: Ground, *, version: str | None, timeout_s: float) -> ToolReport[Built]:
    """Build the sdist, and the wheel from the sdist as users' tools do.

    Args:
        ground: The project's workspace.
        version: Told to build back ends that ask version control.
        timeout_s: Wall time after which it is stopped.
    """
    installed = BUILD.version()
    if installed is None:
        return not_installed(BUILD)
    options = ["--no-isolation", "--skip-dependency-check", "--outdir", "/out/dist"]
    argv = [ground.python, "-B", "-m", "build", *options, "/src"]
    env = {"SOURCE_DATE_EPOCH": "946684800"}
    if version:
        env |= dict.fromkeys(
            ("SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "PBR_VERSION"), version
        )
    outcome = await run_program(
        ground,
        "qe_build",
        {"argv": argv, "env": env},
        collect=["build.json", "dist.tar"],
        limits=replace(Limits(), wall_s=timeout_s, cpu_s=timeout_s, memory_bytes=4 * GIB),
        tools=True,
    )
    finished = outcome.finished
    lines = [line.strip() for line in finished.text.splitlines() if line.strip()]

    def read(content: bytes) -> Built:
        answer: dict[str, list[str]] = json.loads(content)
        files = _unpacked(outcome.outputs.get("dist.tar", b""))
        if finished.exit_code == 0 and not files:
            raise ValueError("it says that it has built, and there is nothing")
        return Built(
            files=files if finished.exit_code == 0 else {},
            absent=tuple(answer["absent"]),
            other_versions=tuple(answer["other_versions"]),
            complaint=_PASSING.sub(r"\1", " / ".join(lines[-3:]))[-600:] if finished.exit_code == 1 else "",
        )

    report = read_report(
        BUILD,
        installed,
        argv=argv,
        finished=finished,
        content=outcome.outputs.get("build.json"),
        read=read,
        name="build.json",
    )
    built = report.value
    if built is None:
        return report
    kept = [*report.artifacts, *(_artifact(name, content) for name, content in built.files.items())]
    if finished.exit_code == _ABSENT:
        names = ", ".join(built.absent)
        return without_value(report, f"it is built with {names}: install that where the worker runs")
    if built.complaint and built.other_versions:
        reason = (
            f"it could not be built, and maybe since {'; '.join(built.other_versions)}: {built.complaint}"
        )
        return without_value(report, reason)
    return replace(report, artifacts=tuple(kept))


def read_wheel(content: bytes) -> Wheel:
    """What a wheel has.

    Raises:
        ValueError: It is no wheel.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = frozenset(name for name in archive.namelist() if not name.endswith("/"))
            (metadata,) = [name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            message = HeaderParser().parsestr(_text(archive, metadata))
            stated = {
                name: version
                for name in sorted(names)
                if name.endswith(".py")
                and name.count("/") <= 1
                and (version := _stated_version(_text(archive, name)))
            }
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"the wheel can't be read: {error}") from error
    return Wheel(
        headers={name: str(value).strip() for name in _HEADERS if (value := message.get(name))},
        modules=tuple(sorted(_top_modules(names))),
        names=names,
        stated_versions=stated,
    )


def missing_modules(project: Path, wheel: Wheel) -> list[str]:
    """Python files of the packages that a wheel brings which it lacks, tests aside; relative to the project.

    A wheel that brings none of the project's packages lacks them all.
    """
    layout = read_layout(project)
    brought = {name.partition("/")[0].removesuffix(".py") for name in wheel.names}
    sources = [source for source in layout.sources if PurePosixPath(source).name in brought]
    missing: list[str] = []
    for source in sources or layout.sources:
        folder = project / source
        if not folder.is_dir():
            if PurePosixPath(source).name not in brought:
                missing.append(f"{source}.py")
            continue
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder.parent).as_posix()
            own = path.relative_to(project).as_posix()
            tested = _TEST_NAMES & set(PurePosixPath(inner).parts) or layout.is_test_file(own)
            if inner not in wheel.names and not tested and not path.is_symlink():
                missing.append(own)
    return missing


async def twine_check(ground: Ground, files: Mapping[str, bytes]) -> ToolReport[dict[str, str]]:
    """Whether an index takes these distributions: by name `PASSED`, `PASSED with warnings` or `FAILED`."""

    def read(content: bytes) -> dict[str, str]:
        found = {
            PurePosixPath(match["file"]).name: match["verdict"]
            for match in _VERDICT.finditer(_plain(content))
        }
        if found.keys() != files.keys():
            raise ValueError(f"it speaks of {sorted(found)} alone")
        return found

    return await run_tool(
        ground,
        TWINE,
        ["--no-color", "check", *(f"/qe/dist/{name}" for name in sorted(files))],
        read=read,
        media_type="text/plain",
        files={f"/qe/dist/{name}": content for name, content in files.items()},
        env={"COLUMNS": "1000"},
    )


async def check_contents(ground: Ground, name: str, content: bytes) -> ToolReport[list[str]]:
    """What check-wheel-contents says of a wheel: lines such as `W005: …`; none where it is well."""

    def read(printed: bytes) -> list[str]:
        found = [(m["code"], m["text"]) for m in _CONTENTS.finditer(_plain(printed))]
        if not found:
            raise ValueError("it says nothing of the wheel")
        return [f"{code}: {text}" for code, text in found if code != "OK"]

    return await run_tool(
        ground,
        WHEEL_CONTENTS,
        ["--no-config", f"/qe/dist/{name}"],
        read=read,
        media_type="text/plain",
        files={f"/qe/dist/{name}": content},
    )


async def install_wheel(
    ground: Ground, name: str, content: bytes, modules: Sequence[str]
) -> ToolReport[dict[str, str]]:
    """Install a wheel without its dependencies into an empty environment, and import its modules.

    What it depends on is taken from the target's environment.

    Returns:
        By module, why it can't be imported, empty where it can; under the empty name why it can't be
        installed.
    """
    version = UV.version()
    if version is None:
        return not_installed(UV)
    uv = [ground.tools_python, "-I", "-m", "uv"]
    offline = ["--offline", "--no-cache", "--no-config", "--no-python-downloads", "--quiet"]
    clean = "/out/clean"
    argv = [*uv, "venv", *offline, "--python", ground.python, clean]
    place = ["--python", f"{clean}/bin/python", "--no-deps"]
    install = [*uv, "pip", "install", *offline, *place, f"/qe/dist/{name}"]
    outcome = await run_program(
        ground,
        "qe_install",
        {"argv": argv, "install": install, "modules": list(modules), "python": ground.python},
        files={f"/qe/dist/{name}": content},
        collect=["install.json"],
        limits=Limits(wall_s=_INSTALL_S, cpu_s=_INSTALL_S),
        tools=True,
    )
    said = " / ".join(outcome.finished.text.split("\n")[-4:])

    def read(answer: bytes) -> dict[str, str]:
        found: dict[str, str] = json.loads(answer)
        if "" in found:
            return {"": f"{found['']}: {said.strip(' /')[-300:]}"}
        if found.keys() != set(modules):
            raise ValueError("it has not tried each module")
        return {str(module): str(problem) for module, problem in found.items()}

    return read_report(
        UV,
        version,
        argv=install,
        finished=outcome.finished,
        content=outcome.outputs.get("install.json"),
        read=read,
        name="install.json",
    )


def _unpacked(content: bytes) -> dict[str, bytes]:
    """Distributions of a tar that code of the target may have written."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if member.isfile() and _NAME.fullmatch(member.name) and (file := archive.extractfile(member)):
                    files[member.name] = file.read()
    except tarfile.TarError:
        return {}
    return files


def _artifact(name: str, content: bytes) -> tuple[ArtifactRef, bytes]:
    media_type = "application/zip" if name.endswith((".whl", ".zip")) else "application/gzip"
    return reference(content, name=name, media_type=media_type), content


def _text(archive: zipfile.ZipFile, name: str) -> str:
    if archive.getinfo(name).file_size > _SMALL:
        return ""
    return archive.read(name).decode("utf-8", "replace")


def _stated_version(source: str) -> str | None:
    if "__version__" not in source:
        return None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets, value=ast.Constant(value=str(version))):
                if any(isinstance(target, ast.Name) and target.id == "__version__" for target in targets):
                    return version
            case ast.AnnAssign(target=ast.Name(id="__version__"), value=ast.Constant(value=str(version))):
                return version
            case _:
                continue
    return None


def _top_modules(names: frozenset[str]) -> Iterator[str]:
    for top in {name.partition("/")[0] for name in names}:
        stem = top.partition(".")[0]
        is_module = top.endswith((".py", ".so", ".pyd"))
        is_package = any(f"{top}/__init__{ending}" in names for ending in (".py", ".pyi"))
        if (is_module or is_package) and stem.isidentifier() and stem not in _TEST_NAMES:
            yield stem


def _plain(content: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", content.decode("utf-8", "replace"))
