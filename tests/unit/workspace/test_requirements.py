from __future__ import annotations

from pathlib import Path

import pytest

from qefleet.workspace.requirements import Plan, fingerprint, read_plan


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_toml", ".toml").replace("_cfg", ".cfg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_modern_project(tmp_path: Path) -> None:
    """Extras and groups for tests are taken, those for development only where there are none."""
    write(
        tmp_path,
        pyproject_toml="""
[build-system]
requires = ["hatchling"]
[project]
name = "x"
requires-python = ">=3.9"
dependencies = ["attrs"]
[project.optional-dependencies]
Testing = ["mock"]
docs = ["sphinx"]
[dependency-groups]
dev = ["ruff"]
""",
    )

    assert read_plan(tmp_path) == Plan(
        install=True,
        requires_python=">=3.9",
        extras=("Testing",),
        groups=("dev",),
        files=(),
        packages=(),
        dependencies=("attrs",),
    )


def test_an_old_project(tmp_path: Path) -> None:
    """What setup.py would tell only when it is run is tried: uv says when an extra isn't there."""
    (tmp_path / "setup.py").write_text("setup(name='x', python_requires='>=3.7')")
    (tmp_path / "requirements-test.txt").write_text("mock\n")
    (tmp_path / "requirements-dev.txt").write_text("ruff\n")

    plan = read_plan(tmp_path)

    assert (plan.install, plan.requires_python, plan.files) == (True, ">=3.7", ("requirements-test.txt",))
    assert plan.extras == ("test", "tests", "testing", "dev")


def test_a_folder_of_scripts(tmp_path: Path) -> None:
    """Without a build back end nothing is installed but what requirement files name."""
    (tmp_path / "requirements.txt").write_text("attrs\n")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/dev.txt").write_text("mock\n")

    plan = read_plan(tmp_path)

    assert (plan.install, plan.files) == (False, ("requirements.txt", "requirements/dev.txt"))


def test_settings_of_other_tools_are_read(tmp_path: Path) -> None:
    """tox, Hatch, PDM and Poetry name test dependencies in tables of their own."""
    write(
        tmp_path,
        pyproject_toml="""
[tool.hatch.envs.test]
dependencies = ["from-hatch"]
[tool.pdm.dev-dependencies]
test = ["from-pdm"]
[tool.poetry]
name = "x"
[tool.poetry.group.test.dependencies]
from-poetry = "^1"
""",
    )
    (tmp_path / "tox.ini").write_text(
        "[testenv]\ndeps =\n  from-tox>=1\n  py38: only-there\n  -r x.txt\n  {posargs}\n"
    )

    assert read_plan(tmp_path).packages == (
        "from-hatch",
        "from-pdm",
        "from-poetry",
        "from-tox>=1",
        "only-there",
    )


@pytest.mark.parametrize(
    "text",
    [
        "[project\n",
        "project = 1\n",
        "[project]\ndependencies = 'x'\nrequires-python = 3\n",
        "\x00",
        "a = [" * 500,
    ],
)
def test_broken_settings_count_as_absent(tmp_path: Path, text: str) -> None:
    """A hostile or broken file ends in an empty plan, not in an error."""
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "setup.cfg").write_text(text)
    (tmp_path / "tox.ini").write_text(text)

    plan = read_plan(tmp_path)

    assert (plan.requires_python, plan.extras, plan.packages, plan.dependencies) == (None, (), (), ())


def test_a_link_to_another_file_is_not_read(tmp_path: Path) -> None:
    """Settings behind a link aren't the project's."""
    (tmp_path / "other").write_text("[project]\nname='x'\ndependencies=['secret']\n")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/pyproject.toml").symlink_to("../other")

    assert read_plan(tmp_path / "project").dependencies == ()


def test_the_fingerprint_changes_with_what_an_environment_depends_on(tmp_path: Path) -> None:
    """Declarations, build scripts, extension sources and new packages count; code doesn't."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    first = fingerprint(tmp_path, "3.11")
    (tmp_path / "pkg/code.py").write_text("x = 1")
    (tmp_path / "pkg/__init__.py").write_text("y = 1")
    unchanged = fingerprint(tmp_path, "3.11")
    seen = {first, fingerprint(tmp_path, "3.12")}
    for name in (
        "pyproject.toml",
        "pkg/fast.pyx",
        "requirements-test.txt",
        "helper_of_setup.py",
        "src/deep.c",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("changed")
        seen.add(fingerprint(tmp_path, "3.11"))

    assert (unchanged, len(seen)) == (first, 7)
