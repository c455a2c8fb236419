from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qefleet.errors import InvalidInput, UsageError
from worker.cli.inputs import absolute_target, build_input, new_workflow_id, parse_json


def _build(**given: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "base": None,
        "target": None,
        "model": None,
        "agents": None,
        "budget_usd": None,
        "thresholds": [],
        "demo": False,
    }
    return build_input("Pipeline", **(nothing | given)).model_dump(mode="json", exclude_unset=True)


def test_options_go_over_the_given_input() -> None:
    """`--input` is the base; what is named on the command line goes over it."""
    built = _build(
        base={"target": "pypi:a==1", "model": "none", "thresholds": {"line_percent_min": 10}},
        target="pypi:b==2",
        agents="quality-gate, test-executor",
        budget_usd=1.5,
        thresholds=["branch_percent_min=50.5", "failed_tests_max=none"],
    )

    assert built == {
        "target": {"kind": "pypi", "location": "b", "ref": "2"},
        "model": "none",
        "agents": [{"agent": "quality-gate"}, {"agent": "test-executor"}],
        "budget_usd": 1.5,
        "thresholds": {"line_percent_min": 10, "branch_percent_min": 50.5, "failed_tests_max": None},
    }


def test_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has another working directory than the shell."""
    monkeypatch.chdir(tmp_path)

    assert absolute_target(".") == str(tmp_path)


def test_bare_string_is_the_target() -> None:
    """As with the Temporal CLI."""
    assert _build(base="pypi:a")["target"] == {"kind": "pypi", "location": "a", "ref": None}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"target": "/no/such/folder"}, "target"),
        ({"target": "pypi:bad name"}, "target"),
        ({"base": {"target": "pypi:a", "modell": "x"}}, "modell"),
        ({"base": [1]}, "input"),
        ({"base": {}}, "target"),
        ({"target": "pypi:a", "agents": "No Such"}, "agents.0.agent"),
        ({"target": "pypi:a", "agents": " , "}, "agents"),
        ({"target": "pypi:a", "budget_usd": -1.0}, "budget_usd"),
        ({"target": "pypi:a", "thresholds": ["line_percent_min=high"]}, "thresholds.line_percent_min"),
        ({"target": "pypi:a", "thresholds": ["line_percent_min"]}, "thresholds.line_percent_min"),
        ({"target": "pypi:a", "thresholds": ["lines=3"]}, "thresholds.lines"),
    ],
)
def test_unusable_input_is_refused_by_its_field(given: dict[str, Any], field: str) -> None:
    """Before anything is started."""
    with pytest.raises(InvalidInput) as caught:
        _build(**given)

    assert caught.value.field == field


def test_demo_bounds_the_generator_unless_agents_were_chosen() -> None:
    """The demo keeps its time; who chooses agents chooses their options, too."""
    bounded = _build(target="pypi:a", model="none", demo=True)["agents"]
    chosen = _build(target="pypi:a", agents="quality-gate", demo=True)["agents"]

    assert bounded[0]["agent"] == "test-generator"
    assert 0 < bounded[0]["options"]["max_minutes"] < 6
    assert chosen == [{"agent": "quality-gate"}]


@pytest.mark.parametrize(
    ("target", "begin"),
    [
        ("boltons", "qe-boltons-"),
        ("https://host/some/Repo_Name.git", "qe-repo-name-"),
        ("/home/me/project", "qe-project-"),
        ("///", "qe-run-"),
    ],
)
def test_workflow_id_tells_its_target(target: str, begin: str) -> None:
    """Readable in a list of runs, and new each time."""
    first, second = new_workflow_id(target), new_workflow_id(target)

    assert first.startswith(begin)
    assert first != second


def test_json_comes_from_a_file(tmp_path: Path) -> None:
    """`@FILE` reads it."""
    (tmp_path / "in.json").write_text('{"a": 1}')

    assert parse_json(f"@{tmp_path / 'in.json'}", name="--input") == {"a": 1}


@pytest.mark.parametrize("text", ["{", "@/no/such/file"])
def test_unreadable_json_names_its_option(text: str) -> None:
    """The message says which option, and how to write it."""
    with pytest.raises(UsageError, match=r"^--input: "):
        parse_json(text, name="--input")
