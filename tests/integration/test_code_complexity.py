"""code-complexity over planted functions whose complexity is counted by hand, line by line."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from agent_context import Alone, measure_alone
from overhead import own_seconds
from planted_project import write_project

from qefleet.agents.code_complexity import CODE_COMPLEXITY
from qefleet.agents.quality_gate import QUALITY_GATE
from qefleet.contracts.changes import Changes
from qefleet.contracts.complexity import ComplexityDetails, Growth
from qefleet.contracts.items import Item
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import Tool
from qefleet.workspace.sandbox import Sandbox

# What each line adds, counted by hand: `y` to cyclomatic complexity (radon's rules), which begins at 1,
# and `g` to cognitive complexity (the white paper's rules), which begins at 0.
_TANGLED = '''"""Values."""


def tangled(items, limit, strict):
    """Sort out."""
    found = []
    if limit < 0:  # y1 g1
        return None
    for item in items:  # y1 g1
        if item is None:  # y1 g2
            continue
        if strict and item > limit:  # y2 g3
            raise ValueError(item)
        while item > 0:  # y1 g2
            if item % 2:  # y1 g3
                found.append(item)
            elif item % 3:  # y1 g1
                found.append(-item)
            else:  # y0 g1
                found.append(0)
            item -= 1
        try:
            found.append(limit / item)
        except ZeroDivisionError:  # y1 g2
            pass
    return found if found else None  # y1 g1


def plain(value):
    return value + 1
'''
_SHAPES = '''"""Functions in all places."""
import functools


class Outer:
    class Inner:
        def method(self, x):
            return 1 if x else 2

    @functools.cache
    def decorated(self):
        def closure(x):
            if x:
                return 1
            return 2

        return closure


async def waits(x):
    async for each in x:
        if each:
            print(each)


if True:

    def twice():
        return 1

else:

    def twice():
        for _ in range(2):
            print(_)
'''
_FILES = {
    "shop/__init__.py": "",
    "shop/tangled.py": _TANGLED,
    "shop/shapes.py": _SHAPES,
    "shop/tests/test_tangled.py": _TANGLED.replace("def tangled", "def test_tangled"),
    "tests/test_more.py": _TANGLED,
}


def _by_hand(mark: str, start: int) -> int:
    return start + sum(int(number) for number in re.findall(rf"# .*{mark}(\d)", _TANGLED))


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


def _changed(ground: LocalGround, folder: Path, files: dict[str, str]) -> LocalGround:
    return replace(ground, project=write_project(folder, {**_FILES, **files}))


def _details(alone: Alone) -> ComplexityDetails:
    return ComplexityDetails.model_validate(alone.details)


async def test_a_complex_function_is_found_with_both_of_its_numbers(ground: LocalGround) -> None:
    """Each by its own tool, as counted by hand; tests inside and beside the package don't count."""
    alone = await measure_alone(CODE_COMPLEXITY, ground)

    cyclomatic, cognitive = _by_hand("y", 1), _by_hand("g", 0)
    assert (cyclomatic, cognitive) == (11, 17)
    assert [(each.tool, each.path, each.line, each.message) for each in _details(alone).issues] == [
        ("complexipy", "shop/tangled.py", 4, "tangled has a cognitive complexity of 17, more than 15"),
        ("radon", "shop/tangled.py", 4, "tangled has a cyclomatic complexity of 11, more than 10"),
    ]
    assert {name: alone.value(f"complexity.{name}") for name in ("cyclomatic_over", "cognitive_over")} == {
        "cyclomatic_over": 1,
        "cognitive_over": 1,
    }
    assert (alone.value("complexity.cyclomatic_max"), alone.value("complexity.cognitive_max")) == (11, 17)
    assert [(item.id, item.title) for item in alone.items] == [
        ("shop/tangled.py", "shop/tangled.py: 1 complex function")
    ]


async def test_a_model_is_shown_the_source_without_its_docstring(ground: LocalGround) -> None:
    (shown,) = (await measure_alone(CODE_COMPLEXITY, ground)).evidence

    assert (shown["function"], shown["cyclomatic"], shown["cognitive"]) == ("shop/tangled.py:tangled", 11, 17)
    assert shown["code"].startswith("def tangled(items, limit, strict):\n    found = []\n")
    assert shown["code"].endswith("return found if found else None  # y1 g1")


async def test_functions_are_told_apart_wherever_they_stand(ground: LocalGround) -> None:
    """In classes within classes, in functions, and twice by one name; as many as the syntax tree has."""
    alone = await measure_alone(CODE_COMPLEXITY, ground, options={"worst": 100})

    found = {
        each.id.partition(":")[2]: (each.cyclomatic, each.cognitive)
        for each in _details(alone).worst
        if each.path == "shop/shapes.py"
    }
    assert found == {
        "Outer.Inner.method": (2, 1),
        "Outer.decorated": (1, 1),
        "Outer.decorated.closure": (2, None),
        "waits": (3, 3),
        "twice": (1, 0),
        "twice#2": (2, 1),
    }
    nodes = [*ast.walk(ast.parse(_SHAPES)), *ast.walk(ast.parse(_TANGLED))]
    defined = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    assert alone.value("complexity.functions") == defined == 8


async def test_a_simple_project_has_nothing_to_show(
    tmp_path: Path, environment: Path, sandbox: Sandbox
) -> None:
    files = {"shop/__init__.py": "", "shop/a.py": "def plain(value):\n    return value + 1\n"}
    alone = await measure_alone(
        CODE_COMPLEXITY, LocalGround(write_project(tmp_path / "p", files), environment, sandbox)
    )

    assert _details(alone).issues == []
    assert (alone.value("complexity.cyclomatic_max"), alone.value("complexity.cognitive_max")) == (1, 0)
    assert (alone.evidence, alone.items) == (None, [])
    volume, cyclomatic, lines = 3 * math.log2(3), 1, 2  # Halstead's: one operator, two operands
    index = 171 - 5.2 * math.log(volume) - 0.23 * cyclomatic - 16.2 * math.log(lines)
    assert alone.value("complexity.maintainability_min") == round(100 * index / 171, 2)


async def test_of_a_change_only_what_it_made_worse_is_new(ground: LocalGround, tmp_path: Path) -> None:
    """An old function over the threshold is known though its lines have moved; one that has grown is not."""
    more = _TANGLED.replace("return value + 1", "return value + 1 if value else 0")
    moved = _changed(ground, tmp_path / "moved", {"shop/tangled.py": "\n" + more})
    line = ("\n" + more).splitlines().index("    return value + 1 if value else 0") + 1
    change = Changes({"shop/tangled.py": [(1, 1), (line, line)]})
    worse = _TANGLED.replace("if item is None:", "if item is None or item == limit:")
    grown = _changed(ground, tmp_path / "grown", {"shop/tangled.py": worse})

    small = await measure_alone(CODE_COMPLEXITY, moved, base=ground, changes=change)
    big = await measure_alone(
        CODE_COMPLEXITY, grown, base=ground, changes=Changes({"shop/tangled.py": [(10, 10)]})
    )

    assert [issue.known for issue in _details(small).issues] == [True, True]
    assert small.value("complexity.cyclomatic_new_over") == 0
    assert small.value("complexity.changed_functions") == 1
    assert _details(small).grown_since_base == [
        Growth(function="shop/tangled.py:plain", kind="cyclomatic", before=1, now=2),
        Growth(function="shop/tangled.py:plain", kind="cognitive", before=0, now=1),
    ]
    assert [shown["function"] for shown in small.evidence] == ["shop/tangled.py:plain"]
    assert [issue.known for issue in _details(big).issues] == [False, False]
    assert (big.value("complexity.cyclomatic_new_over"), big.value("complexity.cyclomatic_grown")) == (1, 1)


async def test_without_a_base_all_that_changed_is_new(ground: LocalGround) -> None:
    alone = await measure_alone(CODE_COMPLEXITY, ground, changes=Changes({"shop/tangled.py": [(1, 40)]}))

    assert (alone.value("complexity.cognitive_new_over"), alone.value("complexity.cognitive_grown")) == (1, 0)


async def test_limits_on_changes_are_asked_of_changes_only(ground: LocalGround) -> None:
    """A gate outside of diff mode doesn't miss what is measured in it alone."""
    whole = await measure_alone(CODE_COMPLEXITY, ground)
    changes = Changes({"shop/tangled.py": [(4, 4)]})
    diff = await measure_alone(CODE_COMPLEXITY, ground, changes=changes)

    gate = await measure_alone(QUALITY_GATE, ground, earlier=[whole.result(CODE_COMPLEXITY)])
    strict = await measure_alone(
        QUALITY_GATE, ground, earlier=[diff.result(CODE_COMPLEXITY)], changes=changes
    )

    assert [rule["rule"] for rule in gate.details["rules"] if "complexity" in rule["rule"]] == []
    asked = {rule["rule"]: rule["passed"] for rule in strict.details["rules"] if "complexity" in rule["rule"]}
    assert asked == {"complexity.cognitive_new_over": False, "complexity.cyclomatic_new_over": False}


async def test_the_last_run_tells_which_functions_got_worse(ground: LocalGround, tmp_path: Path) -> None:
    before = await measure_alone(CODE_COMPLEXITY, ground)
    worse = _TANGLED.replace("return value + 1", "return value + 1 if value else 0")
    now = _changed(ground, tmp_path / "now", {"shop/tangled.py": worse})

    alone = await measure_alone(
        CODE_COMPLEXITY, now, last=before.result(CODE_COMPLEXITY), artifacts=before.artifacts
    )
    same = await measure_alone(
        CODE_COMPLEXITY, ground, last=before.result(CODE_COMPLEXITY), artifacts=before.artifacts
    )

    assert [(each.function, each.kind, each.before, each.now) for each in _details(alone).grown] == [
        ("shop/tangled.py:plain", "cyclomatic", 1, 2),
        ("shop/tangled.py:plain", "cognitive", 0, 1),
    ]
    trend = _details(same).trend
    assert trend
    assert (trend.changes, _details(same).grown) == ([], [])
    assert same.finding.measurement.metrics == before.finding.measurement.metrics


async def test_a_part_of_the_work_is_its_own_files(ground: LocalGround) -> None:
    item = Item(id="shapes", paths=["shop/shapes.py"])
    alone = await measure_alone(CODE_COMPLEXITY, ground, item=item)

    assert (alone.value("complexity.functions"), alone.value("complexity.cyclomatic_over")) == (6, 0)


async def test_a_file_that_is_no_python_is_named(ground: LocalGround, tmp_path: Path) -> None:
    broken = _changed(ground, tmp_path / "broken", {"shop/broken.py": "def f(:\n"})
    alone = await measure_alone(CODE_COMPLEXITY, broken)

    assert alone.value("complexity.functions") == 8
    assert [text.partition(": ")[0] for text in _details(alone).unreadable] == ["shop/broken.py"]


async def test_a_project_without_packages_is_not_measured(
    tmp_path: Path, environment: Path, sandbox: Sandbox
) -> None:
    ground = LocalGround(write_project(tmp_path / "p", {"README.md": "x"}), environment, sandbox)
    alone = await measure_alone(CODE_COMPLEXITY, ground)

    assert "no package" in alone.reason("complexity.functions")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("tool", "kind"), [("radon", "cyclomatic"), ("complexipy", "cognitive")])
async def test_a_broken_tool_leaves_its_numbers_unmeasured(
    ground: LocalGround, tool: str, kind: str, way: Way
) -> None:
    """And those of the other one as they are."""
    alone = await measure_alone(CODE_COMPLEXITY, BrokenTools(ground, tool, way))

    other = {"cyclomatic": "cognitive", "cognitive": "cyclomatic"}[kind]
    assert tool in alone.reason(f"complexity.{kind}_over")
    assert tool in alone.reason(f"complexity.{kind}_max")
    assert alone.value(f"complexity.{other}_over") == 1
    assert f"{kind} complexity not measured" in alone.finding.headline


@pytest.mark.parametrize(("tool", "kind"), [("radon", "cyclomatic"), ("complexipy", "cognitive")])
async def test_a_missing_tool_says_how_to_install_it(
    ground: LocalGround, monkeypatch: pytest.MonkeyPatch, tool: str, kind: str
) -> None:
    installed = Tool.version

    def version(self: Tool) -> str | None:
        return None if self.name == tool else installed(self)

    monkeypatch.setattr(Tool, "version", version)
    alone = await measure_alone(CODE_COMPLEXITY, ground)

    assert f"pip install '{tool}'" in alone.reason(f"complexity.{kind}_max")


async def test_what_is_not_the_tools_is_short(ground: LocalGround) -> None:
    taken = [await own_seconds(CODE_COMPLEXITY, ground) for _ in range(3)]

    assert min(own - allowed for own, allowed in taken) < 0, taken
