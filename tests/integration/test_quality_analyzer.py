"""quality-analyzer over planted issues, each at a known place, and counted by other means."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from agent_context import Alone, measure_alone
from overhead import own_seconds
from planted_project import write_project

from qefleet.agents.quality_analyzer import QUALITY_ANALYZER
from qefleet.contracts.changes import Changes
from qefleet.contracts.items import Item
from qefleet.contracts.quality import FileDocstrings, QualityDetails
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import Tool
from qefleet.workspace.sandbox import Sandbox

_PRICES = '''"""Prices."""

import os


def total(prices: list[int], seen: list[int] = []) -> int:
    """Sum up."""
    return "none" if not prices else sum(prices) + len(seen)


def label(price: int) -> str:
    return currency + str(price)
    print(price)


class Price:
    def __init__(self, value: int) -> None:
        self.value = value
'''
_PLANTED = {
    ("ruff", "F401", 3),
    ("ruff", "B006", 6),
    ("mypy", "return-value", 8),
    ("ruff", "F821", 12),
    ("mypy", "name-defined", 12),
    ("vulture", "unreachable-code", 13),
}
_TESTS = "import os\n\n\ndef test_nothing():\n    assert undefined\n"
_FILES = {
    "pyproject.toml": "[project]\nname = 'shop'\n",
    "shop/__init__.py": "",
    "shop/prices.py": _PRICES,
    "shop/tests/__init__.py": "",
    "shop/tests/test_prices.py": _TESTS,
    "tests/test_more.py": _TESTS,
}
_CLEAN = '"""Clean."""\n\n\ndef double(value: int) -> int:\n    """Twice."""\n    return 2 * value\n'
_ASKED = {
    "ruff": "quality.lint_issues",
    "mypy": "quality.type_errors",
    "vulture": "quality.dead_code",
    "interrogate": "quality.docstring_percent",
}


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


def _changed(ground: LocalGround, folder: Path, files: dict[str, str]) -> LocalGround:
    return replace(ground, project=write_project(folder, {**_FILES, **files}))


def _details(alone: Alone) -> QualityDetails:
    return QualityDetails.model_validate(alone.details)


def _printed_by_ruff(project: Path) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--output-format=concise"]
    rules, files = "--select=E4,E7,E9,F,W6,B,PLE", ["shop/__init__.py", "shop/prices.py"]
    ended = subprocess.run(
        [*command, rules, *files], cwd=project, capture_output=True, text=True, check=False
    )
    return ended.stdout


def _without_mypy(ground: LocalGround) -> LocalGround:
    """It takes most of the time."""
    return cast("LocalGround", BrokenTools(ground, "mypy", "nothing"))


async def test_each_planted_issue_is_found_in_its_place(ground: LocalGround) -> None:
    """And nothing else; tests inside the package and beside it don't count."""
    alone = await measure_alone(QUALITY_ANALYZER, ground)

    issues = _details(alone).issues
    assert {(issue.tool, issue.rule, issue.line) for issue in issues} == _PLANTED
    assert {issue.path for issue in issues} == {"shop/prices.py"}
    assert len(issues) == len({issue.id for issue in issues}) == len(_PLANTED)
    assert {metric: alone.value(metric) for metric in list(_ASKED.values())[:3]} == {
        "quality.lint_issues": 3,
        "quality.type_errors": 2,
        "quality.dead_code": 1,
    }
    assert issues[0].rule == "F821"
    assert {shown["issue"]: shown["code"] for shown in alone.evidence}["F401@shop/prices.py:3"] == "import os"


async def test_lint_issues_are_as_many_as_ruff_prints_for_the_folder(ground: LocalGround) -> None:
    alone = await measure_alone(QUALITY_ANALYZER, _without_mypy(ground))

    assert alone.value("quality.lint_issues") == _printed_by_ruff(ground.project).count("shop/prices.py:")


async def test_docstrings_are_counted_as_the_syntax_tree_has_them(ground: LocalGround) -> None:
    """Modules, classes and functions, whatever their names."""
    nodes = [
        node
        for path in ("shop/__init__.py", "shop/prices.py")
        for node in ast.walk(ast.parse(_FILES[path]))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    documented = sum(ast.get_docstring(node) is not None for node in nodes)
    alone = await measure_alone(QUALITY_ANALYZER, _without_mypy(ground))

    assert (documented, len(nodes)) == (2, 6)
    assert (alone.value("quality.documented"), alone.value("quality.definitions")) == (2, 6)
    assert alone.value("quality.docstring_percent") == 100 * documented / len(nodes)
    assert _details(alone).undocumented == [
        FileDocstrings(path="shop/prices.py", documented=2, definitions=5),
        FileDocstrings(path="shop/__init__.py", documented=0, definitions=1),
    ]


async def test_a_clean_project_has_nothing_to_show(
    tmp_path: Path, environment: Path, sandbox: Sandbox
) -> None:
    files = {"clean/__init__.py": _CLEAN}
    alone = await measure_alone(
        QUALITY_ANALYZER, LocalGround(write_project(tmp_path / "p", files), environment, sandbox)
    )

    assert {metric: alone.value(metric) for metric in _ASKED.values()} == {
        "quality.lint_issues": 0,
        "quality.type_errors": 0,
        "quality.dead_code": 0,
        "quality.docstring_percent": 100,
    }
    assert (_details(alone).issues, alone.evidence) == ([], None)


async def test_the_projects_own_configuration_goes_first(ground: LocalGround, tmp_path: Path) -> None:
    """Its rules decide what counts, and the details name the file; what would change files does not."""
    config = (
        "[tool.ruff]\nfix = true\nshow-fixes = true\nlint.select = ['F401']\n"
        "[tool.interrogate]\nignore-init-method = true\nignore-module = true\n"
        "[tool.vulture]\nexclude = ['prices.py']\n"
        "[tool.mypy]\npretty = true\ndisable_error_code = ['name-defined']\n"
    )
    own = _changed(ground, tmp_path / "own", {"pyproject.toml": config})
    alone = await measure_alone(QUALITY_ANALYZER, own)

    assert [(issue.rule, issue.severity) for issue in _details(alone).issues] == [
        ("return-value", "medium"),
        ("F401", "low"),
    ]
    assert set(_details(alone).checked_by.values()) == {"pyproject.toml"}
    assert (alone.value("quality.documented"), alone.value("quality.definitions")) == (1, 3)
    assert alone.value("quality.dead_code") == 0


async def test_what_mypy_cannot_check_is_not_measured(ground: LocalGround, tmp_path: Path) -> None:
    """A file that is no Python keeps it from all others; the rest is measured, and the file is named."""
    broken = _changed(ground, tmp_path / "broken", {"shop/broken.py": "def f(:\n"})
    alone = await measure_alone(QUALITY_ANALYZER, broken)

    assert alone.reason("quality.type_errors").startswith("mypy ended with exit code 2: shop/broken.py:1: ")
    assert ("ruff", "invalid-syntax") in {(issue.tool, issue.rule) for issue in _details(alone).issues}
    assert _details(alone).unreadable[0].startswith("shop/broken.py: SyntaxError")
    assert alone.value("quality.definitions") == 6


async def test_notes_of_mypy_on_its_configuration_are_no_report(ground: LocalGround, tmp_path: Path) -> None:
    """It prints them between the errors, and has no option against them."""
    noted = _changed(
        ground,
        tmp_path / "noted",
        {"setup.cfg": "[mypy]\nwarn_unused_configs = True\n\n[mypy-tests.*]\nstrict = True\n"},
    )
    alone = await measure_alone(QUALITY_ANALYZER, noted)

    assert b"note: " in next(kept for kept in alone.artifacts.kept.values() if b"unused section" in kept)
    assert (alone.value("quality.type_errors") or 0) >= 2


async def test_of_a_change_only_its_own_issues_are_new(ground: LocalGround, tmp_path: Path) -> None:
    """Old ones are known though their lines have moved; a second one of a kind is new where it was added."""
    lines = _PRICES.replace("import os\n", "import os\nimport sys\n").splitlines()
    added = [*lines, "", "", "def again(price: int) -> str:", "    return currency + str(price)"]
    now = _changed(ground, tmp_path / "now", {"shop/prices.py": "\n".join(added) + "\n"})
    changes = Changes({"shop/prices.py": [(4, 4), (len(lines) + 1, len(added))]})

    alone = await measure_alone(QUALITY_ANALYZER, now, base=ground, changes=changes)

    new = {(i.tool, i.rule, i.line) for i in _details(alone).issues if not i.known}
    assert new == {("ruff", "F401", 4), ("ruff", "F821", len(added)), ("mypy", "name-defined", len(added))}
    assert alone.value("quality.lint_issues") == 5
    assert alone.value("quality.new_lint_issues") == 2
    assert alone.value("quality.new_type_errors") == 1
    assert alone.value("quality.new_dead_code") == 0
    assert alone.value("quality.new_issues") == 3
    assert {shown["issue"] for shown in alone.evidence} == {
        i.id for i in _details(alone).issues if not i.known
    }
    (kept,) = [ref for ref in alone.finding.artifacts if ref.name == "issues.json"]
    listed: list[dict[str, Any]] = json.loads(alone.artifacts.kept[kept.digest])
    assert sum(not issue["known"] for issue in listed) == 3


async def test_what_cannot_be_told_of_the_base_is_not_new(ground: LocalGround) -> None:
    base = BrokenTools(ground, "ruff", "crashing")
    alone = await measure_alone(
        QUALITY_ANALYZER, _without_mypy(ground), base=base, changes=Changes({"shop/prices.py": [(1, 1)]})
    )

    assert alone.reason("quality.new_lint_issues").startswith("in the base: ruff ended with exit code 139")
    assert alone.value("quality.new_dead_code") == 0
    assert "mypy" in alone.reason("quality.new_issues")


async def test_without_a_base_all_is_new(ground: LocalGround) -> None:
    alone = await measure_alone(QUALITY_ANALYZER, ground, changes=Changes({"shop/prices.py": [(1, 20)]}))

    assert alone.value("quality.new_issues") == len(_PLANTED)


async def test_figures_are_held_against_the_last_run(ground: LocalGround, tmp_path: Path) -> None:
    last = await measure_alone(QUALITY_ANALYZER, _without_mypy(ground))
    mended = _changed(ground, tmp_path / "m", {"shop/prices.py": _PRICES.replace("import os\n", "\n")})

    result = last.result(QUALITY_ANALYZER)
    now = await measure_alone(QUALITY_ANALYZER, _without_mypy(mended), last=result)
    same = await measure_alone(QUALITY_ANALYZER, _without_mypy(ground), last=result)

    trend = _details(now).trend
    assert trend
    assert [(each.metric, each.before, each.now) for each in trend.changes] == [("quality.lint_issues", 3, 2)]
    assert same.finding.headline.endswith("as the last time")
    assert same.finding.measurement.metrics == last.finding.measurement.metrics


async def test_a_part_of_the_work_is_its_own_files(ground: LocalGround) -> None:
    item = Item(id="init", paths=["shop/__init__.py"])
    alone = await measure_alone(QUALITY_ANALYZER, _without_mypy(ground), item=item)

    assert (alone.value("quality.lint_issues"), alone.value("quality.definitions")) == (0, 1)


async def test_a_project_without_packages_is_not_measured(
    tmp_path: Path, environment: Path, sandbox: Sandbox
) -> None:
    ground = LocalGround(write_project(tmp_path / "p", {"README.md": "x"}), environment, sandbox)
    alone = await measure_alone(QUALITY_ANALYZER, ground)

    assert {"no package" in alone.reason(metric) for metric in _ASKED.values()} == {True}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tool", _ASKED)
async def test_a_broken_tool_leaves_its_numbers_unmeasured(ground: LocalGround, tool: str, way: Way) -> None:
    """And those of the others as they are."""
    others = ground if tool == "mypy" else _without_mypy(ground)
    alone = await measure_alone(QUALITY_ANALYZER, BrokenTools(others, tool, way))

    assert tool in alone.reason(_ASKED[tool])
    assert all(
        alone.value(metric) is not None for name, metric in _ASKED.items() if name not in {tool, "mypy"}
    )


@pytest.mark.parametrize("tool", _ASKED)
async def test_a_missing_tool_says_how_to_install_it(
    ground: LocalGround, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    installed = Tool.version

    def version(self: Tool) -> str | None:
        return None if self.name == tool else installed(self)

    monkeypatch.setattr(Tool, "version", version)
    alone = await measure_alone(QUALITY_ANALYZER, _without_mypy(ground))

    assert f"pip install '{tool}'" in alone.reason(_ASKED[tool])


async def test_what_is_not_the_tools_is_short(ground: LocalGround) -> None:
    taken = [await own_seconds(QUALITY_ANALYZER, ground) for _ in range(3)]

    assert min(own - allowed for own, allowed in taken) < 0, taken
