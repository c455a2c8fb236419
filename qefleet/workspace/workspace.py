"""From a target to a place where its code can be run.

```
target ── snapshot ──► content-addressed archive, in Postgres
snapshot ── prepare ─► environment: built once, pinned, the only step with network
snapshot + environment + patches ── open ─► workspace: runs start from the same files each time
```

Each step depends on what is in Postgres alone: whatever worker does the next one finds or makes the folders
that it needs in its own data folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qefleet.contracts.base import Digest
from qefleet.contracts.targets import Environment, Snapshot, Target
from qefleet.errors import InvalidInput, TargetError
from qefleet.memory.artifacts import Artifacts
from qefleet.workspace.archive import Tree, make_folders, measure, pack, safe_path, unpack
from qefleet.workspace.cache import FolderCache
from qefleet.workspace.changes import find_changes
from qefleet.workspace.churn import read_churn
from qefleet.workspace.environment import Built, EnvironmentBuilder
from qefleet.workspace.index_settings import IndexSettings
from qefleet.workspace.interpreters import Interpreter, find_interpreter
from qefleet.workspace.patches import apply_patch, combine_patches
from qefleet.workspace.requirements import TOOLS, fingerprint, read_plan
from qefleet.workspace.sandbox import Finished, Limits, Mount, Sandbox
from qefleet.workspace.source_folder import project_name, read_folder
from qefleet.workspace.source_git import read_base, read_git
from qefleet.workspace.source_pypi import read_release

_RECIPE = "2"
"""Part of every environment's key: raise it when environments are built differently."""
_KEPT_S = 7 * 24 * 3600.0
"""Trees that nobody has opened for so long are removed; they can be made again."""


@dataclass(frozen=True)
class WorkspaceRun:
    """What a run in a workspace gives."""

    finished: Finished
    outputs: Mapping[str, bytes]
    """The collected files that were there, by their names under `/out`."""


@dataclass(frozen=True)
class _Source:
    """What was read from a target."""

    tree: Tree
    name: str
    version: str | None = None
    base: Tree | None = None
    churn: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class _Prepared:
    """What a worker has of an environment in its data folder."""

    environment: Environment
    interpreter: Interpreter
    built: Built


TOOLS_PYTHON = "/tools/bin/python" if sys.prefix != sys.base_prefix else sys.executable
"""The interpreter of the fleet's own environment, as runs with `tools` see it."""


class Workspace:
    """A project with its environment; each run starts from the same files and leaves nothing behind."""

    source_dir = "/src"
    python = "/env/bin/python"
    tools_python = TOOLS_PYTHON

    def __init__(self, *, project: Path, venv: Path, prepared: _Prepared, sandbox: Sandbox) -> None:
        self.project = project
        """The files on this machine: to read, never to write or to execute."""
        self._sandbox = sandbox
        self._pythonpath = prepared.built.pythonpath
        self._mounts = [Mount(project, "/src", layered=True), Mount(venv, "/env")]
        self._mounts += [Mount(Path(prefix), prefix) for prefix in prepared.interpreter.prefixes]

    async def run(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        tools: bool = False,
    ) -> WorkspaceRun:
        """Run a program in `/src`, without network; all that it starts has ended when this returns.

        Args:
            argv: Program and arguments; `python` is on the path.
            files: Files to lay over the project first: relative to `/src`, or absolute below `/qe`.
            collect: Names below `/out` to read back: regular files only.
            env: Further environment variables; `PYTHONPATH` goes before the workspace's own.
            limits: When to stop it.
            tools: Show it this worker's own environment too, at its own place.

        Raises:
            SandboxUnavailable: The sandbox couldn't be built.
        """
        given = dict(env or {})
        paths = [part for part in (given.pop("PYTHONPATH", ""), *self._pythonpath) if part]
        finished = await self._sandbox.run(
            argv,
            mounts=[*self._mounts, *(own_environment() if tools else ())],
            cwd="/src",
            env={
                "PATH": "/env/bin:/usr/local/bin:/usr/bin:/bin",
                "VIRTUAL_ENV": "/env",
                **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {}),
                **given,
            },
            limits=limits,
            files={
                name if name.startswith("/") else f"/src/{name}": body for name, body in (files or {}).items()
            },
            collect=[f"/out/{name}" for name in collect],
        )
        outputs = {name.removeprefix("/out/"): content for name, content in finished.outputs.items()}
        return WorkspaceRun(finished, outputs)


def own_environment() -> list[Mount]:
    """This process's environment, where the fleet's tools are.

    A virtual environment is shown at a place of its own: where it lies, a run may have its scratch layer.
    An interpreter without one is there already.
    """
    return [Mount(Path(sys.prefix), "/tools")] if sys.prefix != sys.base_prefix else []


class Workspaces:
    """Makes snapshots, environments and workspaces; one for each worker.

    Args:
        data_dir: The worker's data folder; all that is kept here can be made again.
        sandbox: Where untrusted code runs.
        artifacts: Where snapshots, pins and patches are kept for all workers.
        uv: The uv program.
        index: The user's package index; read from the process's environment without it.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        sandbox: Sandbox,
        artifacts: Artifacts,
        uv: Path,
        index: IndexSettings | None = None,
    ) -> None:
        self._root = data_dir / "workspaces"
        self._cache = FolderCache(self._root)
        self._sandbox = sandbox
        self._artifacts = artifacts
        self._uv = uv
        self._index = index or IndexSettings.from_environment(os.environ)
        self._builder = EnvironmentBuilder(
            sandbox=sandbox, uv=uv, caches=self._root / "downloads", index=self._index
        )

    async def snapshot(self, target: Target, *, base: str | None = None) -> Snapshot:
        """Read the target once and keep it as an artifact.

        Args:
            target: What to read.
            base: A commit, branch or tag of its repository: what it was where it branched off from there is
                kept too, and which lines have changed since.

        Raises:
            TargetError: It can't be read; the message says what to do.
            InvalidInput: The target is in no git repository, or it has no such base.
            TransientError: Its server can't be reached now.
            StoreUnavailable: Postgres can't be reached.
        """
        found = await self._read(target, base)
        await asyncio.to_thread(self._cache.prune, "projects", older_than_s=_KEPT_S)
        snapshot = await self._keep(found.tree, found.name, found.version)
        if found.base is None:
            return snapshot
        changes = await find_changes(found.base, found.tree, work_dir=self._root)
        kept = await self._artifacts.put(
            changes.model_dump_json().encode(), name="changes.json", media_type="application/json"
        )
        before = await self._keep(found.base, found.name, None) if found.base.entries else None
        churn = await self._artifacts.put(
            json.dumps(found.churn).encode(), name="churn.json", media_type="application/json"
        )
        return snapshot.model_copy(update={"changes": kept.digest, "churn": churn.digest, "base": before})

    async def _keep(self, tree: Tree, name: str, version: str | None) -> Snapshot:
        files, size_bytes = measure(tree.entries)
        archive = await asyncio.to_thread(pack, tree)
        kept = await self._artifacts.put(archive, name=f"{name}.tar.gz", media_type="application/gzip")
        return Snapshot(digest=kept.digest, name=name, version=version, files=files, size_bytes=size_bytes)

    async def _read(self, target: Target, base: str | None) -> _Source:
        match target.kind:
            case "path":
                folder = Path(target.location)
                tree = await read_folder(folder)
                name = await asyncio.to_thread(project_name, folder)
                if base is None:
                    return _Source(tree, name)
                return _Source(tree, name, base=await read_base(folder, base), churn=await read_churn(folder))
            case "git":
                found = await read_git(target.location, target.ref, work_dir=self._root, base=base)
                name = target.location.rstrip("/").rpartition("/")[2].removesuffix(".git") or "repository"
                return _Source(found.tree, name, found.commit, found.base, found.churn)
            case "pypi":
                if base:
                    raise InvalidInput("base", "a package has no commits: give a folder or a git repository")
                release = await read_release(target.location, target.ref, index_url=self._index.simple_url)
                return _Source(release.tree, release.name, release.version)

    async def prepare(self, snapshot: Snapshot) -> Environment:
        """Install what the snapshot's code and tests need, pinned; quick when nothing has changed.

        Raises:
            TargetError: It can't be installed, or no Python here fits.
            TransientError: The package index can't be reached now.
            StoreUnavailable: Postgres can't be reached.
        """
        folder = await self._environment_folder(snapshot, None)
        prepared = await asyncio.to_thread(_load, folder)
        # The folder may be older than the database.
        await self._put_pins(prepared.built.pins)
        return prepared.environment

    @asynccontextmanager
    async def open(
        self, snapshot: Snapshot, environment: Environment, patches: Sequence[Digest] = ()
    ) -> AsyncGenerator[Workspace]:
        """A workspace with these patches applied in order.

        Raises:
            TargetError: A patch doesn't fit.
            TransientError: The environment has to be made anew here, and the package index is away.
            ArtifactMissing: The snapshot or a patch isn't in this database.
        """
        folder = await self._environment_folder(snapshot, environment)
        prepared = await asyncio.to_thread(_load, folder)
        name = hashlib.sha256("\0".join([snapshot.digest, folder.name, *patches]).encode()).hexdigest()

        async def make(project: Path) -> None:
            archive = await self._artifacts.get(snapshot.digest)
            tree = project / "tree"
            await asyncio.to_thread(unpack, archive, tree)
            generated = await asyncio.to_thread((folder / "generated.tar").read_bytes)
            await asyncio.to_thread(_lay_over, generated, tree)
            await apply_patch(tree, combine_patches([await self._artifacts.get(patch) for patch in patches]))
            await asyncio.to_thread(_open_to_sandbox, tree)

        project = await self._cache.folder("projects", name, make)
        os.utime(project)
        yield Workspace(
            project=project / "tree", venv=folder / "venv", prepared=prepared, sandbox=self._sandbox
        )

    async def _base(self, snapshot: Snapshot) -> Path:
        async def make(folder: Path) -> None:
            archive = await self._artifacts.get(snapshot.digest)
            tree = await asyncio.to_thread(unpack, archive, folder / "tree")
            about = {"notes": list(tree.notes), "scm_version": tree.scm_version}
            await asyncio.to_thread((folder / "about.json").write_text, json.dumps(about))

        return await self._cache.folder("snapshots", snapshot.digest, make)

    async def _environment_folder(self, snapshot: Snapshot, wanted: Environment | None) -> Path:
        """The folder of an environment: pinned as `wanted` says, else resolved now."""
        base = await self._base(snapshot)
        about = json.loads((base / "about.json").read_text())
        plan = await asyncio.to_thread(read_plan, base / "tree")
        interpreter = await find_interpreter(
            self._uv, f"=={wanted.python}" if wanted else plan.requires_python
        )
        scm_version = snapshot.version if _is_release(snapshot) else about["scm_version"]
        recipe = (_RECIPE, interpreter.executable, interpreter.version, scm_version or "", *TOOLS)
        recipe += (json.dumps(about["notes"]), json.dumps(dict(self._index.environment), sort_keys=True))
        key = await asyncio.to_thread(fingerprint, base / "tree", *recipe)
        folder = self._root / "environments" / key
        if wanted is not None and folder.is_dir() and _load(folder).environment.digest != wanted.digest:
            key = hashlib.sha256(f"{key}{wanted.digest}".encode()).hexdigest()

        async def make(folder: Path) -> None:
            pins = (
                None
                if wanted is None
                else (await self._artifacts.get(wanted.requirements)).decode().splitlines()
            )
            built = await self._builder.build(
                folder,
                base=await self._tools(interpreter),
                project=base / "tree",
                plan=plan,
                interpreter=interpreter,
                trust=snapshot.name,
                scm_version=scm_version,
                pins=pins,
            )
            environment = wanted or await self._describe(interpreter, built, about["notes"])
            meta = {
                "environment": environment.model_dump(),
                "interpreter": asdict(interpreter),
                "built": asdict(built),
            }
            await asyncio.to_thread((folder / "environment.json").write_text, json.dumps(meta))

        return await self._cache.folder("environments", key, make)

    async def _tools(self, interpreter: Interpreter) -> Path:
        async def make(folder: Path) -> None:
            await self._builder.build_base(folder, interpreter=interpreter)

        identity = "\0".join([_RECIPE, interpreter.executable, interpreter.version, *TOOLS])
        return await self._cache.folder("tools", hashlib.sha256(identity.encode()).hexdigest(), make)

    async def _describe(self, interpreter: Interpreter, built: Built, notes: Sequence[str]) -> Environment:
        requirements = await self._put_pins(built.pins)
        identity = f"python=={interpreter.version}\n{requirements}"
        return Environment(
            digest=hashlib.sha256(identity.encode()).hexdigest(),
            requirements=requirements,
            python=interpreter.version,
            packages=len(built.pins),
            notes=[*notes, *built.notes],
        )

    async def _put_pins(self, pins: Sequence[str]) -> Digest:
        content = "".join(f"{pin}\n" for pin in pins).encode()
        return (await self._artifacts.put(content, name="requirements.txt", media_type="text/plain")).digest


def _is_release(snapshot: Snapshot) -> bool:
    return snapshot.version is not None and "." in snapshot.version


def _load(folder: Path) -> _Prepared:
    meta = json.loads((folder / "environment.json").read_text())
    interpreter, built = meta["interpreter"], meta["built"]
    return _Prepared(
        environment=Environment.model_validate(meta["environment"]),
        interpreter=Interpreter(
            interpreter["executable"], interpreter["version"], tuple(interpreter["prefixes"])
        ),
        built=Built(tuple(built["pins"]), tuple(built["notes"]), tuple(built["pythonpath"])),
    )


def _lay_over(generated: bytes, tree: Path) -> None:
    """Put what the build made over the project's files. A build back end could have written any tar."""
    if not generated:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(generated), mode="r:") as tar:
            for info in tar:
                if not info.isreg() or not safe_path(info.name) or (source := tar.extractfile(info)) is None:
                    continue
                place = tree / info.name
                make_folders(tree, place.parent)
                if place.is_symlink() or place.exists():
                    place.unlink()
                place.write_bytes(source.read())
                place.chmod(0o777 if info.mode & 0o100 else 0o666)
    except (tarfile.TarError, OSError) as error:
        raise TargetError(f"what the target's build made can't be laid over its files: {error}") from error


def _open_to_sandbox(tree: Path) -> None:
    """Files that a patch made or replaced get the modes of all others."""
    for place, folders, files in os.walk(tree):
        for path in (Path(place) / name for name in (*folders, *files)):
            if not path.is_symlink():
                # Nobody else can enter the folders above.
                path.chmod(0o777 if path.is_dir() or path.stat().st_mode & 0o100 else 0o666)
