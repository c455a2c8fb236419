"""Small projects of our making, with a build back end in their own tree that needs no download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

BACKEND = """
import os, pathlib, zipfile

NAME, VERSION = "planted", os.environ.get("SETUPTOOLS_SCM_PRETEND_VERSION", "0")

def get_requires_for_build_editable(config_settings=None):
    return []

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_editable(directory, config_settings=None, metadata_directory=None):
    prepare()
    return wheel(directory, {"planted.pth": os.path.abspath("src") + "\\n"})

def build_wheel(directory, config_settings=None, metadata_directory=None):
    prepare()
    sources = pathlib.Path("src/planted").glob("*.py")
    return wheel(directory, {f"planted/{path.name}": path.read_text() for path in sources})

def wheel(directory, files):
    info = f"{NAME}-{VERSION}.dist-info"
    extras = "Provides-Extra: test\\nRequires-Dist: iniconfig; extra == 'test'\\n"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: {VERSION}\\n{extras}"
    tags = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\\nGenerator: x\\n{tags}"
    record = "".join(f"{name},,\\n" for name in [*files, f"{info}/RECORD"])
    files[f"{info}/RECORD"] = record
    filename = f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, filename), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return filename

def prepare():
    pathlib.Path("src/planted/_version.py").write_text(f"VERSION = {VERSION!r}\\n")
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "planted"
dynamic = ["version"]
requires-python = ">=3.8"
[project.optional-dependencies]
test = ["iniconfig"]
[dependency-groups]
test = ["no-such-package-for-the-qe-fleet"]
"""


def plant(folder: Path, *, prepare: str = "", pyproject: str = PYPROJECT) -> Path:
    """Write the project into a new folder.

    Args:
        folder: Where to.
        prepare: What its build back end does besides, in Python.
        pyproject: Its settings.
    """
    (folder / "src/planted").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "pyproject.toml").write_text(pyproject)
    (folder / "backend.py").write_text(BACKEND + "".join(f"    {line}\n" for line in prepare.splitlines()))
    (folder / "src/planted/__init__.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "tests/test_planted.py").write_text(
        "from planted import double\nfrom planted._version import VERSION\n\n"
        "def test_double():\n    assert double(2) == 4\n    print('version', VERSION)\n"
    )
    return folder


def write_project(folder: Path, files: Mapping[str, str]) -> Path:
    """A project that the sandbox's user may write to, as workspaces are."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    return folder
