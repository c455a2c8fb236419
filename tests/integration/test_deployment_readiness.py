"""Releases with a planted flaw each, and one that has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project

from qefleet.agents.deployment_readiness import DEPLOYMENT_READINESS
from qefleet.testing.broken import WAYS, BrokenTools
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import ToolReport
from qefleet.tools.release.distributions import (
    build_distributions,
    check_contents,
    install_wheel,
    twine_check,
)
from qefleet.tools.release.inventory import bill_of_materials, licences
from qefleet.workspace.sandbox import Sandbox

_PYPROJECT = """[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "planted"
version = "1.2"
description = "Doubles numbers"
readme = "README.rst"
requires-python = ">=3.8"
license = "MIT"
dependencies = ["packaging"]

[tool.setuptools]
packages = ["planted", "planted.parts"]
"""
_FILES = {
    "pyproject.toml": _PYPROJECT,
    "README.rst": "Planted\n=======\n\nIt doubles.\n",
    "planted/__init__.py": 'from planted.parts import double\n\n__version__ = "1.2"\n__all__ = ["double"]\n',
    "planted/parts/__init__.py": "def double(x):\n    return 2 * x\n",
    "tests/test_planted.py": "def test_nothing():\n    assert True\n",
}
_ALL = [
    "builds",
    "twine",
    "wheel-contents",
    "wheel-complete",
    "metadata",
    "version-consistent",
    "wheel-installs",
    "sbom",
    "licences-known",
]
_MODULES = ("build", "twine", "check_wheel_contents", "uv", "cyclonedx_py", "piplicenses")

Ground = Callable[[dict[str, str]], LocalGround]


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> Ground:
    def make(changed: dict[str, str]) -> LocalGround:
        folder = tmp_path / f"project{len(list(tmp_path.iterdir()))}"
        return LocalGround(write_project(folder, {**_FILES, **changed}), environment, sandbox)

    return make


def _checks(alone: Alone, status: str) -> dict[str, str]:
    return {check["id"]: check["why"] for check in alone.details["checks"] if check["status"] == status}


def _counts(alone: Alone) -> dict[str, float | None]:
    names = ("checks_passed", "checks_failed", "checks_unmeasured", "blockers")
    return {name: alone.value(f"readiness.{name}") for name in names}


async def test_a_release_without_a_flaw_passes_every_check(ground: Ground) -> None:
    alone = await measure_alone(DEPLOYMENT_READINESS, ground({}))

    assert list(_checks(alone, "passed")) == _ALL
    assert _counts(alone) == {
        "checks_passed": len(_ALL),
        "checks_failed": 0,
        "checks_unmeasured": 0,
        "blockers": 0,
    }
    assert (alone.details["name"], alone.details["version"]) == ("planted", "1.2")
    assert [*alone.details["licences"]] == ["packaging"]
    kept = {ref.name for ref in alone.finding.artifacts}
    assert {"planted-1.2-py3-none-any.whl", "planted-1.2.tar.gz", "cyclonedx-bom.json"} <= kept
    assert [check["id"] for check in alone.evidence["checks"]] == _ALL


@pytest.mark.soak
async def test_measuring_again_gives_the_same_and_takes_little_of_our_own(ground: Ground) -> None:
    """At most 200 ms a tool; those that list the environment run beside those of the distributions."""
    project = ground({})
    found = [await measure_alone(DEPLOYMENT_READINESS, project) for _ in range(3)]

    assert found[0].details == found[1].details == found[2].details
    assert len({alone.finding.evidence for alone in found}) == 1
    ours: list[float] = []
    for alone in found:
        runs = {run.tool: run.duration_s for run in alone.finding.measurement.tools}
        beside = max(runs.pop("cyclonedx-bom"), runs.pop("pip-licenses"))
        ours.append(alone.took_s - max(beside, sum(runs.values())))
    assert min(ours) < 0.2 * len(_MODULES)


async def test_a_wheel_that_lacks_a_module_blocks(ground: Ground) -> None:
    """Told twice: by comparing it with the project, and by importing what was installed."""
    settings = _PYPROJECT.replace('"planted", "planted.parts"', '"planted"')
    alone = await measure_alone(DEPLOYMENT_READINESS, ground({"pyproject.toml": settings}))

    failed = _checks(alone, "failed")
    assert failed["wheel-complete"] == "it lacks planted/parts/__init__.py"
    assert "No module named 'planted.parts'" in failed["wheel-installs"]
    assert (alone.value("readiness.checks_failed"), alone.value("readiness.blockers")) == (2, 2)
    assert [issue["rule"] for issue in alone.details["issues"]] == ["wheel-complete", "wheel-installs"]


async def test_a_description_that_no_index_can_show_blocks(ground: Ground) -> None:
    alone = await measure_alone(
        DEPLOYMENT_READINESS, ground({"README.rst": "Planted\n===\n\n.. no:: such\n"})
    )

    assert _checks(alone, "failed") == {
        "twine": "planted-1.2-py3-none-any.whl: FAILED; planted-1.2.tar.gz: FAILED"
    }
    assert alone.value("readiness.blockers") == 1


async def test_a_build_that_fails_is_one_blocker(ground: Ground) -> None:
    """What would be said of a wheel isn't asked then."""
    project = ground({"setup.py": "raise RuntimeError('it is broken in ' + __file__)\n"})
    alone = await measure_alone(DEPLOYMENT_READINESS, project)

    why = _checks(alone, "failed")["builds"]
    assert "it is broken in" in why
    assert _counts(alone) == {"checks_passed": 2, "checks_failed": 1, "checks_unmeasured": 0, "blockers": 1}


async def test_without_a_back_end_nobody_knows(ground: Ground) -> None:
    settings = _PYPROJECT.replace("setuptools>=61", "no-such-back-end")
    alone = await measure_alone(DEPLOYMENT_READINESS, ground({"pyproject.toml": settings}))

    assert "it is built with no-such-back-end" in alone.reason("readiness.blockers")
    assert "builds" in alone.reason("readiness.checks_failed")
    assert alone.value("readiness.checks_unmeasured") == 5


async def test_a_dependency_that_is_not_here_leaves_the_import_unknown(ground: Ground) -> None:
    files = {
        "pyproject.toml": _PYPROJECT.replace('["packaging"]', '["no-such-dependency"]'),
        "planted/__init__.py": "import no_such_dependency\n",
    }
    alone = await measure_alone(DEPLOYMENT_READINESS, ground(files))

    assert "no-such-dependency, which it depends on" in _checks(alone, "unmeasured")["wheel-installs"]


async def _run(module: str, ground: LocalGround, wheel: tuple[str, bytes]) -> ToolReport[Any]:
    runs: dict[str, Callable[[], Awaitable[ToolReport[Any]]]] = {
        "build": lambda: build_distributions(ground, version=None, timeout_s=60),
        "twine": lambda: twine_check(ground, dict([wheel])),
        "check_wheel_contents": lambda: check_contents(ground, *wheel),
        "uv": lambda: install_wheel(ground, *wheel, ["planted"]),
        "cyclonedx_py": lambda: bill_of_materials(ground),
        "piplicenses": lambda: licences(ground),
    }
    return await runs[module]()


@pytest.mark.parametrize("module", _MODULES)
async def test_a_broken_tool_decides_nothing(ground: Ground, module: str) -> None:
    whole = ground({})
    built = (await build_distributions(whole, version=None, timeout_s=60)).value
    wheel = built.of(".whl") if built else None
    assert wheel
    assert (await _run(module, whole, wheel)).value is not None
    for way in WAYS:
        report = await _run(module, cast("LocalGround", BrokenTools(whole, module, way)), wheel)
        assert report.value is None, way
        assert report.reason, way


@pytest.mark.parametrize(
    ("module", "unknown"),
    [
        ("build", ["builds", "twine", "wheel-contents", "wheel-complete", "wheel-installs"]),
        ("piplicenses", ["licences-known"]),
    ],
)
async def test_what_a_broken_tool_would_have_decided_is_unknown(
    ground: Ground, module: str, unknown: list[str]
) -> None:
    """How many checks fail isn't known then, nor how many blockers there are where it would be one."""
    broken = cast("LocalGround", BrokenTools(ground({}), module, "nothing"))
    alone = await measure_alone(DEPLOYMENT_READINESS, broken)

    assert list(_checks(alone, "unmeasured")) == unknown
    assert alone.value("readiness.checks_failed") is None
    assert (alone.value("readiness.blockers") is None) == (module == "build")


@pytest.mark.parametrize("module", _MODULES)
async def test_a_missing_tool_says_how_to_install_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (name,) = [
        tool.name
        for tool in DEPLOYMENT_READINESS.tools
        if not isinstance(tool, str) and module in {tool.module, tool.name}
    ]
    version = metadata.version

    def without(distribution: str) -> str:
        if distribution == name:
            raise metadata.PackageNotFoundError(name)
        return version(distribution)

    monkeypatch.setattr(metadata, "version", without)
    report = await _run(module, ground({}), ("planted-1.2-py3-none-any.whl", b""))

    assert report.value is None
    assert report.run
    assert report.run.problem == report.reason
    assert f"pip install '{name}'" in report.reason
