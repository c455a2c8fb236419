"""Selections against the truth: whatever fails on a changed project must have been selected before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_context import Alone, measure_alone
from broken_program import BrokenProgram
from planted_project import write_project

from qefleet.agents.regression_risk_analyzer import REGRESSION_RISK_ANALYZER
from qefleet.contracts.changes import Changes
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.changes.changed_code import differing_files
from qefleet.tools.changes.import_graph import read_imports
from qefleet.tools.changes.selection import Facts, read_reached, select_tests
from qefleet.tools.ground import read_json
from qefleet.tools.program import Tool
from qefleet.tools.project import read_layout
from qefleet.tools.running.junit import read_cases
from qefleet.tools.running.suite import run_suite
from qefleet.workspace.sandbox import Sandbox

_CORE = """RATE = 2
TABLE = {}


def register(function):
    TABLE[function.__name__] = function
    return function


def double(x):
    return x * RATE


def never(x):
    return x


class Base:
    scale = 10

    def scaled(self, x):
        return x * self.scale

    def plain(self, x):
        return x
"""
_PRICES = """from shop.core import RATE, Base, double, register

LIMIT = double(50)


class Price(Base):
    def total(self, x):
        return self.scaled(x) + 1


@register
def quote(x):
    return min(double(x), LIMIT)
"""
_TEXTS = """def tidy(text):
    return " ".join(text.split())


def shout(text):
    return tidy(text).upper()
"""
_FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\ntestpaths = ["tests"]\n',
    "README.md": "# Shop\n",
    "shop/__init__.py": "",
    "shop/core.py": _CORE,
    "shop/prices.py": _PRICES,
    "shop/halves.py": "def halve(x):\n    return x // 2\n",
    "shop/texts.py": _TEXTS,
    "shop/labels.json": '{"a": 1}\n',
    "shop/labels.py": "import json, pathlib\n\n\ndef label():\n"
    "    return json.loads((pathlib.Path(__file__).parent / 'labels.json').read_text())['a']\n",
    "tests/helpers.py": "from shop.texts import tidy\n\n\ndef same(a, b):\n    return tidy(a) == tidy(b)\n",
    "tests/conftest.py": "import pytest\n\nfrom shop.halves import halve\n\n\n"
    "@pytest.fixture(scope='session')\ndef half():\n    return halve(9)\n",
    "tests/test_core.py": "from shop import core\n\n\n"
    "def test_double():\n    assert core.double(2) == 4\n\n\n"
    "def test_plain():\n    assert core.Base().plain(1) == 1\n",
    "tests/test_prices.py": "from shop.prices import LIMIT, Price, quote\n\n\n"
    "def test_quote():\n    assert quote(3) == 6\n\n\ndef test_limit():\n    assert LIMIT == 100\n\n\n"
    "def test_total():\n    assert Price().total(2) == 21\n",
    "tests/test_fixture_a.py": "def test_half(half):\n    assert half == 4\n",
    "tests/test_fixture_b.py": "def test_half_again(half):\n    assert half == 4\n",
    "tests/test_texts.py": "from helpers import same\nfrom shop.texts import shout\n\n\n"
    "def test_same():\n    assert same('a  b', 'a b')\n\n\ndef test_shout():\n    assert shout('a') == 'A'\n",
    "tests/test_labels.py": "from shop.labels import label\n\n\ndef test_label():\n    assert label() == 1\n",
    "tests/test_alone.py": "def test_alone():\n    assert 1\n",
}
_CORE_PY, _PRICES_PY, _ALONE = "shop/core.py", "shop/prices.py", "tests/test_alone.py"
_OVERRIDE = "    def scaled(self, x):\n        return x\n\n    def total"
_FAILING = {
    "a function": (_CORE_PY, "return x * RATE", "return x + RATE + 1"),
    "a function that a shared fixture runs": ("shop/halves.py", "return x // 2", "return x"),
    "a constant that others copy": (_CORE_PY, "RATE = 2", "RATE = 3"),
    "an attribute of a base class": (_CORE_PY, "scale = 10", "scale = 11"),
    "a method": (_PRICES_PY, "+ 1", "+ 2"),
    "a module that can't be imported": (_PRICES_PY, "LIMIT = double(50)", "LIMIT = 1 / 0"),
    "a decorator's function": (_CORE_PY, "    return function\n", "    return None\n"),
    "a method that overrides": (_PRICES_PY, "    def total", _OVERRIDE),
    "what a helper of the tests calls": ("shop/texts.py", '" ".join(text.split())', "text"),
    "a helper of the tests": ("tests/helpers.py", "==", "!="),
    "a fixture": ("tests/conftest.py", "halve(9)", "halve(7)"),
    "data of a package": ("shop/labels.json", "1", "2"),
    "a test": (_ALONE, "assert 1", "assert 0"),
    "a new test": (_ALONE, "    assert 1", "    assert 1\n\n\ndef test_new():\n    assert 0"),
}
_HARMLESS = {
    "a comment": (_CORE_PY, "RATE = 2", "RATE = 2  # percent"),
    "the read-me": ("README.md", "Shop", "The shop"),
    "a function that no test reaches": (_CORE_PY, "    return x\n\n\nclass", "    return -x\n\n\nclass"),
}
_MUTATIONS = {**_FAILING, **_HARMLESS}
_TOUCH_ALL = {"a fixture", "a function that a shared fixture runs", "data of a package"}
"""`conftest.py` is everybody's."""


def _changed(files: Mapping[str, str], mutation: str) -> tuple[dict[str, str], Changes]:
    """The project with one mutation, and which lines of it are new."""
    path, old, new = _MUTATIONS[mutation]
    assert files[path].count(old) >= 1
    text = files[path].replace(old, new, 1)
    before = files[path].split("\n")
    lines = [n for n, line in enumerate(text.split("\n"), start=1) if line not in before]
    return {**files, path: text}, Changes({path: [(n, n) for n in lines]})


@pytest.fixture(scope="module")
async def base(tmp_path_factory: pytest.TempPathFactory, environment: Path, sandbox: Sandbox) -> LocalGround:
    folder = write_project(tmp_path_factory.mktemp("shop") / "base", _FILES)
    return LocalGround(folder, environment, sandbox)


@pytest.fixture(scope="module")
async def facts(base: LocalGround) -> Facts:
    """What is known of the base, measured once."""
    run = await run_suite(base, coverage=True, contexts=True, lean=True)
    assert run.green, run.details
    reached = read_reached(read_json(run.artifact("coverage.json")))
    graph = (await read_imports(base)).value
    assert reached
    assert graph
    tests = [case.node_id for case in read_cases(run.artifact("junit.xml")) or []]
    return Facts(
        base=base.project,
        head=base.project,
        layout=read_layout(base.project),
        differing={},
        before=tests,
        now=tests,
        reached=reached,
        graphs=[graph],
    )


@pytest.mark.parametrize("mutation", _MUTATIONS)
async def test_no_test_that_fails_was_left_out(
    facts: Facts, base: LocalGround, tmp_path: Path, mutation: str
) -> None:
    """The whole suite on the changed project is the truth; and no selection is simply everything."""
    files, _ = _changed(_FILES, mutation)
    head = replace(base, project=write_project(tmp_path / "head", files))
    whole = await run_suite(head, coverage=False, lean=True)
    now = [case.node_id for case in read_cases(whole.artifact("junit.xml")) or [] if "::" in case.node_id]
    if whole.details.outcome == "collection_failed":
        now, failing = [*facts.now], {t for t in facts.now if t.startswith("tests/test_prices.py")}
    else:
        failing = {*whole.failing_ids}
    graph = (await read_imports(head)).value
    assert graph

    found = select_tests(
        replace(
            facts,
            head=head.project,
            now=now,
            differing=differing_files(base.project, head.project),
            graphs=[graph, *facts.graphs],
        )
    )

    selected = {test.node_id for test in found.ranked()}
    assert bool(failing) is (mutation in _FAILING)
    assert failing <= selected
    assert len(selected) < len(now) or mutation in _TOUCH_ALL


async def _analysed(
    base: LocalGround, folder: Path, mutation: str, **options: Any
) -> tuple[Alone, LocalGround]:
    files, changes = _changed(_FILES, mutation)
    head = replace(base, project=write_project(folder / "head", files))
    return await measure_alone(REGRESSION_RISK_ANALYZER, head, base=base, changes=changes, **options), head


async def test_a_change_is_told_with_its_tests_and_what_is_left_out(
    base: LocalGround, tmp_path: Path
) -> None:
    found, _ = await _analysed(base, tmp_path, "a method", churn={"shop/prices.py": 7, "shop/core.py": 2})
    assert [(test["node_id"], test["why"]) for test in found.details["selected"]] == [
        ("tests/test_prices.py::test_total", "reaches"),
        ("tests/test_prices.py::test_limit", "imports"),
        ("tests/test_prices.py::test_quote", "imports"),
    ]
    assert {
        name: found.value(f"regression.{name}")
        for name in (
            "changed_files",
            "changed_lines",
            "tests",
            "selected_tests",
            "left_out_tests",
            "uncovered_changes",
            "risk_files",
            "failing_tests",
            "churn_commits",
        )
    } == {
        "changed_files": 1,
        "changed_lines": 1,
        "tests": 11,
        "selected_tests": 3,
        "left_out_tests": 8,
        "uncovered_changes": 0,
        "risk_files": 0,
        "failing_tests": 1,
        "churn_commits": 7,
    }
    (file,) = found.details["files"]
    assert (file["path"], file["functions"], file["tests"]) == ("shop/prices.py", ["Price.total"], 3)
    kept = {artifact.name: artifact.digest for artifact in found.finding.artifacts}
    chosen = found.artifacts.kept[kept["selected-tests.txt"]].decode().splitlines()
    assert chosen[0] == "tests/test_prices.py::test_total"
    assert [item.id for item in found.items] == ["tests/test_prices.py"]
    assert found.evidence[0]["failing"] == ["tests/test_prices.py::test_total"]


async def test_a_change_that_no_test_reaches_is_a_risk(base: LocalGround, tmp_path: Path) -> None:
    found, _ = await _analysed(base, tmp_path, "a function that no test reaches")
    assert (found.value("regression.uncovered_changes"), found.value("regression.risk_files")) == (1, 1)
    assert found.details["files"][0]["uncovered"] == [[15, 15]]
    assert "no test reaches 1 of 1 changed lines" in found.finding.headline


async def test_nothing_is_selected_where_no_code_has_changed(base: LocalGround, tmp_path: Path) -> None:
    found, _ = await _analysed(base, tmp_path, "the read-me")
    assert "could not be read" in found.reason("regression.churn_commits")
    assert (found.value("regression.selected_tests"), found.value("regression.changed_files")) == (0, 1)
    assert found.details["unattributed"] == ["README.md"]
    assert found.evidence is None


async def test_without_a_base_nothing_is_known(base: LocalGround) -> None:
    found = await measure_alone(REGRESSION_RISK_ANALYZER, base)
    assert "--base REF" in found.reason("regression.selected_tests")
    assert found.finding.headline.startswith("nothing analysed: what has changed is not known")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tool", ["pytest", "grimp"])
async def test_a_broken_tool_selects_nothing(base: LocalGround, tmp_path: Path, tool: str, way: Way) -> None:
    """And closes the gate."""
    files, changes = _changed(_FILES, "a method")
    head = replace(base, project=write_project(tmp_path / "head", files))
    broken = BrokenProgram(head, "qe_suite", way) if tool == "pytest" else BrokenTools(head, tool, way)
    found = await measure_alone(REGRESSION_RISK_ANALYZER, broken, base=base, changes=changes)
    assert found.reason("regression.selected_tests")
    assert found.value("regression.changed_lines") == 1
    assert found.finding.headline.startswith("no test is selected: ")
    assert [run.tool for run in found.finding.measurement.tools if run.problem] == [tool]


async def test_a_missing_tool_says_how_to_install_it(
    base: LocalGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qefleet.tools.changes.import_graph.GRIMP", Tool(name="looking-glass"))
    found = await measure_alone(REGRESSION_RISK_ANALYZER, base, base=base, changes=Changes({}))
    assert "pip install 'looking-glass'" in found.reason("regression.selected_tests")


async def test_a_base_that_can_t_be_measured_selects_nothing(base: LocalGround, tmp_path: Path) -> None:
    """A suite that ends its own process leaves no contexts to trust."""
    ended = {**_FILES, "tests/test_alone.py": "import os\n\n\ndef test_alone():\n    os._exit(0)\n"}
    before = replace(base, project=write_project(tmp_path / "before", ended))
    found = await measure_alone(
        REGRESSION_RISK_ANALYZER, base, base=before, changes=Changes({"tests/test_alone.py": [(1, 2)]})
    )
    assert found.reason("regression.selected_tests").startswith("in the base: ")


async def test_in_a_new_project_every_test_is_selected(base: LocalGround) -> None:
    """The target did not exist in the base."""
    found = await measure_alone(REGRESSION_RISK_ANALYZER, base, changes=Changes({"shop/core.py": [(1, 3)]}))
    assert (found.value("regression.selected_percent"), found.value("regression.left_out_tests")) == (100, 0)


async def test_our_own_time_is_short(base: LocalGround, tmp_path: Path) -> None:
    """Under 200 ms or 5 % around each tool; the best of three, for the machine is shared."""
    shares: list[float] = []
    while not shares or (min(shares) >= 1 and len(shares) < 3):
        found, _ = await _analysed(base, tmp_path / str(len(shares)), "a method")
        runs = [run for run in found.finding.measurement.tools if run.duration_s]
        shares.append(found.overhead_s / sum(max(0.2, 0.05 * run.duration_s) for run in runs))
    assert min(shares) < 1
