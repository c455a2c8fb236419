"""Reading a project's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from qefleet.tools.project import read_layout


def _project(folder: Path, *files: str, **contents: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "sources", "roots", "tests"),
    [
        (["pkg/__init__.py", "tests/__init__.py", "docs/__init__.py", "setup.py"], ("pkg",), (".",), "tests"),
        (["src/pkg/__init__.py", "test/test_a.py"], ("src/pkg",), ("src",), "test"),
        (["src/space/inner/__init__.py", "tests/x.py"], ("src/space",), ("src",), "tests"),
        (["single.py", "test_single.py", "setup.py", "conftest.py"], ("single",), (".",), "tests"),
        (["pkg/__init__.py", "pkg/tests/test_a.py"], ("pkg",), (".",), "pkg/tests"),
        (["lib/pkg/__init__.py"], ("lib/pkg",), ("lib",), "tests"),
        (["README.md"], (), (".",), "tests"),
    ],
)
def test_sources_and_tests_are_found(
    tmp_path: Path, files: list[str], sources: tuple[str, ...], roots: tuple[str, ...], tests: str
) -> None:
    """The usual layouts: package at the top, src, namespace, single module, tests inside, lib, none."""
    layout = read_layout(_project(tmp_path, *files))

    assert (layout.sources, layout.import_roots, layout.test_folder) == (sources, roots, tests)


@pytest.mark.parametrize(
    ("addopts", "expected"),
    [
        ('"-ra --strict-markers"', None),
        ('"-ra --cov=pkg --cov-report term-missing --cov-branch -n auto"', ("-ra",)),
        ('"--cov pkg --cov-report=xml -x --maxfail 2 -W error"', ("-W", "error")),
        ('["-n4", "--dist", "loadfile", "--reruns", "2", "-k", "not slow"]', ("-k", "not slow")),
        ('"-p randomly -p no:warnings"', ("-p", "no:warnings")),
    ],
)
def test_options_that_disturb_measuring_are_left_out(
    tmp_path: Path, addopts: str, expected: tuple[str, ...] | None
) -> None:
    """Coverage within coverage, other processes, retries and early ends; the rest stays as it is."""
    _project(tmp_path, pyproject__toml=f"[tool.pytest.ini_options]\naddopts = {addopts}\n")

    assert read_layout(tmp_path).addopts == expected


def test_pytest_ini_comes_before_pyproject(tmp_path: Path) -> None:
    """Configuration is read from the file that pytest itself takes."""
    _project(
        tmp_path,
        pytest__ini="[pytest]\ntestpaths = spec\n",
        pyproject__toml='[tool.pytest.ini_options]\ntestpaths = ["tests"]\n',
    )
    (tmp_path / "spec").mkdir()
    (tmp_path / "tests").mkdir()

    assert read_layout(tmp_path).test_folder == "spec"


@pytest.mark.parametrize(
    ("patterns", "path"),
    [
        ("", "tests/test_qe_x.py"),
        ("python_files = *_spec.py", "tests/qe_x_spec.py"),
        ("python_files = tests.py", "tests/qe_x/tests.py"),
    ],
)
def test_new_test_files_are_collected(tmp_path: Path, patterns: str, path: str) -> None:
    """A new file's name follows the project's own `python_files`."""
    _project(tmp_path, pytest__ini=f"[pytest]\n{patterns}\n")

    assert read_layout(tmp_path).test_file("qe_x") == path


@pytest.mark.parametrize("content", ["[tool.pytest", "\x00", "[tool]\npytest = 3\n"])
def test_broken_configuration_counts_as_none(tmp_path: Path, content: str) -> None:
    """Somebody else's broken file doesn't break a run here; pytest itself will say so."""
    _project(tmp_path, pyproject__toml=content)

    assert read_layout(tmp_path).addopts is None


def test_module_names_follow_the_import_root(tmp_path: Path) -> None:
    """Names are as tests import them."""
    layout = read_layout(_project(tmp_path, "src/pkg/__init__.py"))

    names = [
        layout.module_of(file)
        for file in ("src/pkg/a.py", "src/pkg/__init__.py", "other/a.py", "src/p-q/a.py")
    ]

    assert names == ["pkg.a", "pkg", None, None]
