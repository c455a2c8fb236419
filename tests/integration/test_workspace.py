"""From a target to a run, as a worker does it: real uv, real package index, real Postgres."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from planted_project import PYPROJECT, plant

from qefleet.contracts.targets import Environment, Snapshot, Target
from qefleet.errors import TargetError
from qefleet.memory.artifacts import Artifacts
from qefleet.sql.database import open_pool
from qefleet.testing.postgres import ThrowAwayPostgres
from qefleet.workspace.patches import make_patch
from qefleet.workspace.sandbox import Sandbox
from qefleet.workspace.workspace import Workspace, Workspaces

LIST = "import importlib.metadata as m; print(sorted((d.name, d.version) for d in m.distributions()))"


@pytest.fixture(scope="module")
async def artifacts(postgres: ThrowAwayPostgres) -> AsyncIterator[Artifacts]:
    async with postgres.database() as dsn:
        pool = await open_pool(dsn)
        yield Artifacts(pool)
        await pool.close()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def workspaces(artifacts: Artifacts, data_dir: Path) -> Workspaces:
    return worker(artifacts, data_dir)


@pytest.fixture(scope="module")
async def planted(
    workspaces: Workspaces, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Snapshot, Environment]:
    """A src layout, a version from its tag, a generated file, and a group that can't be installed."""
    folder = plant(tmp_path_factory.mktemp("planted") / "project")
    (folder / ".gitignore").write_text("_version.py\n")
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    commit = [*identity, "commit", "-qm", "first"]
    for arguments in (["init", "-q"], ["add", "."], commit, ["tag", "v2.3.0"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)  # noqa: ASYNC221  in a fixture, nobody waits
    snapshot = await workspaces.snapshot(Target(kind="path", location=str(folder)))
    return folder, snapshot, await workspaces.prepare(snapshot)


def worker(artifacts: Artifacts, data_dir: Path) -> Workspaces:
    return Workspaces(
        data_dir=data_dir,
        sandbox=Sandbox.detect(scratch_root=data_dir / "scratch"),
        artifacts=artifacts,
        uv=Path(sys.executable).parent / "uv",
    )


async def suite(workspace: Workspace) -> str:
    run = await workspace.run([workspace.python, "-m", "pytest", "-q", "-s"])
    return f"{run.finished.exit_code}\n{run.finished.text}"


async def test_a_project_is_prepared_and_runs(
    workspaces: Workspaces, planted: tuple[Path, Snapshot, Environment]
) -> None:
    """Installed editable, with its extra, the generated file and the tag's version; the rest is noted."""
    folder, snapshot, environment = planted

    async with workspaces.open(snapshot, environment) as workspace:
        text = await suite(workspace)
        where = await workspace.run(["python", "-c", "import planted, iniconfig; print(planted.__file__)"])

    assert text.startswith("0\n")
    assert "version 2.3.0" in text
    assert where.finished.text == "/src/src/planted/__init__.py\n"
    assert (snapshot.name, snapshot.files) == ("planted", 5)
    assert [note.partition(" (")[0] for note in environment.notes] == ["not installed: dependency group test"]
    assert not (folder / "src/planted/_version.py").exists()


async def test_preparing_again_finds_what_is_there(
    workspaces: Workspaces, planted: tuple[Path, Snapshot, Environment]
) -> None:
    """The same content gives the same snapshot, and code that changed doesn't need another environment."""
    folder, snapshot, environment = planted
    (folder / "src/planted/more.py").write_text("x = 1\n")
    changed = await workspaces.snapshot(Target(kind="path", location=str(folder)))
    found = await workspaces.prepare(changed)
    (folder / "src/planted/more.py").unlink()
    same = await workspaces.snapshot(Target(kind="path", location=str(folder)))

    assert (found, same) == (environment, snapshot)
    assert changed.digest != snapshot.digest


async def test_patches_are_laid_over_in_order(
    workspaces: Workspaces, artifacts: Artifacts, planted: tuple[Path, Snapshot, Environment]
) -> None:
    """A workspace with patches has them all, one without has none."""
    _, snapshot, environment = planted
    digests: list[str] = []
    for text in ("def test_one(): pass\n", "def test_one(): pass\ndef test_two(): pass\n"):
        async with workspaces.open(snapshot, environment, digests) as workspace:
            patch = make_patch(workspace.project, {"tests/test_more.py": text})
        kept = await artifacts.put(patch, name="p.patch", media_type="text/x-diff")
        digests.append(kept.digest)

    async with workspaces.open(snapshot, environment, digests) as workspace:
        patched = await suite(workspace)
    async with workspaces.open(snapshot, environment) as workspace:
        plain = await suite(workspace)
    with pytest.raises(TargetError, match="doesn't fit"):
        async with workspaces.open(snapshot, environment, digests[::-1]):
            pass

    assert "3 passed" in patched
    assert "1 passed" in plain


async def test_files_of_a_run_and_results(
    workspaces: Workspaces, planted: tuple[Path, Snapshot, Environment]
) -> None:
    """Relative files lie in the project, absolute ones beside it; results come by their names."""
    _, snapshot, environment = planted
    async with workspaces.open(snapshot, environment) as workspace:
        run = await workspace.run(
            ["python", "helper.py"],
            files={
                "helper.py": b"import plug; plug.go()",
                "/qe/plug.py": b"def go(): open('/out/r', 'w').write('1')",
            },
            collect=["r", "missing"],
            env={"PYTHONPATH": "/qe"},
        )

        assert (run.finished.exit_code, dict(run.outputs)) == (0, {"r": b"1"})
        assert not (workspace.project / "helper.py").exists()


async def test_another_worker_makes_the_same_environment(
    artifacts: Artifacts, planted: tuple[Path, Snapshot, Environment], tmp_path: Path, workspaces: Workspaces
) -> None:
    """With nothing but the database, a second data folder gets the pinned packages and the same files."""
    _, snapshot, environment = planted
    listed: list[str] = []
    for each in (workspaces, worker(artifacts, tmp_path / "other")):
        async with each.open(snapshot, environment) as workspace:
            run = await workspace.run(["python", "-c", LIST])
            listed.append(run.finished.text)
            assert (await suite(workspace)).startswith("0\n")

    assert listed[0] == listed[1]
    assert "('pytest'," in listed[0]
    pins = (await artifacts.get(environment.requirements)).decode().splitlines()
    assert len(pins) == environment.packages
    assert any(pin.startswith("pytest==") for pin in pins)


async def test_scripts_without_a_build_are_imported_from_their_folder(
    workspaces: Workspaces, tmp_path: Path
) -> None:
    """Neither pyproject.toml nor setup.py: the folder is on the path."""
    (tmp_path / "tool.py").write_text("def f(): return 1\n")
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks/test_tool.py").write_text("import tool\ndef test_f(): assert tool.f() == 1\n")
    snapshot = await workspaces.snapshot(Target(kind="path", location=str(tmp_path)))
    environment = await workspaces.prepare(snapshot)

    async with workspaces.open(snapshot, environment) as workspace:
        run = await workspace.run(["pytest", "-q", "checks"])

    assert (run.finished.exit_code, environment.notes) == (0, [])


async def test_a_hostile_build_reaches_the_index_and_nothing_else(
    workspaces: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build back end sees no secret, no service of this machine, no process and no file of the host."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary-of-the-build")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hostile = f"""
import glob, socket, urllib.request
found = []
for path in glob.glob("/proc/*/environ"):
    try:
        found.append(open(path, "rb").read().decode(errors="replace"))
    except OSError as error:
        found.append(str(error))
for url in ("http://127.0.0.1:{port}/", "http://169.254.169.254/", "http://localhost:{port}/"):
    try:
        found.append("ESCAPED " + urllib.request.urlopen(url, timeout=5).read().decode())
    except OSError as error:
        found.append(str(error))
try:
    socket.create_connection(("127.0.0.1", {port}), 2); found.append("ESCAPED")
except OSError as error:
    found.append(str(error))
pathlib.Path("src/planted/found.txt").write_text("\\n".join(found))
pathlib.Path("../../escape").write_text("x") if os.access("/", os.W_OK) else None
"""
    folder = plant(
        tmp_path / "project", prepare=hostile.strip(), pyproject=PYPROJECT.partition("[dependency")[0]
    )
    snapshot = await workspaces.snapshot(Target(kind="path", location=str(folder)))
    environment = await workspaces.prepare(snapshot)
    async with workspaces.open(snapshot, environment) as workspace:
        found = (workspace.project / "src/planted/found.txt").read_text()
    server.close()
    await server.wait_closed()

    assert "Permission denied" in found or "HOME=" in found
    assert "ESCAPED" not in found
    assert "canary" not in found
    assert found.count("403") == 3


@pytest.mark.parametrize(
    ("pyproject", "prepare", "message"),
    [
        (PYPROJECT.replace(">=3.8", ">=99"), "", "needs Python >=99, which this machine doesn't have"),
        (PYPROJECT, "raise SystemExit('no compiler')", "can't be installed.*no compiler"),
        (PYPROJECT.replace("[project]", '[project]\ndependencies = ["no-such-package-qe-1"]'), "",
         "no-such-package-qe-1"),
    ],
    ids=["python", "build", "dependency"],
)  # fmt: skip
async def test_what_cannot_be_installed_says_why(
    workspaces: Workspaces, tmp_path: Path, pyproject: str, prepare: str, message: str
) -> None:
    """The interpreter, the build and the dependencies each have a message of their own."""
    folder = plant(tmp_path / "project", pyproject=pyproject, prepare=prepare)
    if "no-such-package-qe-1" in pyproject:
        backend = folder / "backend.py"
        backend.write_text(
            backend.read_text().replace(
                "Provides-Extra", "Requires-Dist: no-such-package-qe-1\\nProvides-Extra"
            )
        )
    snapshot = await workspaces.snapshot(Target(kind="path", location=str(folder)))

    with pytest.raises(TargetError, match=f"(?s){message}"):
        await workspaces.prepare(snapshot)


async def test_a_cancelled_preparation_leaves_nothing_half_done(artifacts: Artifacts, tmp_path: Path) -> None:
    """Cancelled while it installs, it ends at once, and the next try starts afresh."""
    workspaces = worker(artifacts, tmp_path / "data")
    folder = plant(tmp_path / "project", prepare="import time; time.sleep(600)")
    snapshot = await workspaces.snapshot(Target(kind="path", location=str(folder)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await workspaces.prepare(snapshot)

    unfinished = tmp_path / "data/workspaces/.unfinished"
    assert list(unfinished.iterdir()) == []
    assert not (tmp_path / "data/workspaces/environments").exists()


async def test_two_workers_prepare_once(
    workspaces: Workspaces, artifacts: Artifacts, tmp_path: Path, data_dir: Path
) -> None:
    """Workers of one data folder that start together share one piece of work."""
    folder = plant(tmp_path / "project", pyproject=PYPROJECT.partition("[dependency")[0])
    snapshot = await workspaces.snapshot(Target(kind="path", location=str(folder)))
    before = len(list((data_dir / "workspaces/environments").iterdir()))

    environments = await asyncio.gather(
        *(each.prepare(snapshot) for each in (workspaces, worker(artifacts, data_dir)))
    )

    assert environments[0] == environments[1]
    assert len(list((data_dir / "workspaces/environments").iterdir())) == before + 1
